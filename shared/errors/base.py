"""The base of all errors: a stable code, what happened, and what to do."""

from typing import ClassVar

from shared.database_text import without_unstorable_text

MAX_DETAIL_CHARS = 2_000


class MattingError(Exception):
    """Internal error of the service. The details are in its log."""

    code: ClassVar[str] = "internal-error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str] = (
        "Try again. If it fails again, give the operator the request id or item id."
    )

    def __init__(self, detail: str | None = None) -> None:
        """`detail` replaces the class docstring's first paragraph as the message. It is cut to
        `MAX_DETAIL_CHARS`: libraries quote file contents of any length in theirs.
        """
        said = detail or (type(self).__doc__ or "").strip().split("\n\n")[0]
        self.detail = without_unstorable_text(said)[:MAX_DETAIL_CHARS]
        super().__init__(self.detail)

    @property
    def message(self) -> str:
        """What happened and what to do, in one line, fit for a report."""
        return said_with(self.detail, self.remedy)


def said_with(detail: str, remedy: str) -> str:
    """Two sentences in one line."""
    return f"{detail if detail.endswith('?') else detail.rstrip('.') + '.'} {remedy}"
