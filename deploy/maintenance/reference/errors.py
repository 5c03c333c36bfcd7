"""The reference page of all error codes, with HTTP status, meaning and remedy."""

from deploy.maintenance.reference.markdown import code, page, table
from shared.errors import ERRORS, ImageError, MattingError, RequestError, SetupError, TransientError

INTRODUCTION = """\
Every error has a code that never changes, a sentence that says what happened, and a sentence that
says what to do. You meet the codes in four places: in `code` of an HTTP error
(`application/problem+json`), in `error.code` of an item or a job, in the report's column
`error_code`, and in the last line of a `matting` command."""

GROUPS: tuple[tuple[str, str, type[MattingError]], ...] = (
    (
        "The photo is at fault",
        "The image fails, the rest of its batch goes on. The worker does not try it again.",
        ImageError,
    ),
    (
        "A part of the system is at fault",
        "The worker tries the image again, later each time, up to `MATTING_MAX_ATTEMPTS` times; "
        "an outage of the object storage uses up no try. The API answers a request that meets one "
        "with 503 and `Retry-After`.",
        TransientError,
    ),
    (
        "A process can't start, or a command can't run",
        "The process or the command ends with a status other than 0. These have no HTTP status.",
        SetupError,
    ),
    ("The request is at fault", "The API answers with this status.", RequestError),
    ("The rest", "A defect, or an image that was given up.", MattingError),
)


def errors_page() -> str:
    """All error codes, grouped by cause: photo, system, setup, request."""
    left = dict(ERRORS)
    parts = []
    for title, explanation, base in GROUPS:
        group = [left.pop(one.code) for one in list(left.values()) if issubclass(one, base)]
        parts += [f"## {title}", explanation, _table(group)]
    return page("Error codes", INTRODUCTION, *parts)


def _table(errors: list[type[MattingError]]) -> str:
    with_status = not all(issubclass(one, SetupError) for one in errors)
    head = ["code", *(["status"] if with_status else []), "what happened", "what to do"]
    return table(
        head,
        (
            [
                code(one.code),
                *([str(one.http_status)] if with_status else []),
                (one.__doc__ or "").split("\n\n")[0],
                one.remedy,
            ]
            for one in errors
        ),
    )
