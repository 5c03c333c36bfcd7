"""What every error has: a stable code, what happened, and what to do about it."""

from typing import ClassVar

from shared.database_text import without_unstorable_text

MAX_DETAIL_CHARS = 2_000


class MattingError(Exception):
    """Something went wrong inside the service; the details are in its log."""

    code: ClassVar[str] = "internal-error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str] = "Try again; if it stays, send the operator the request or item id."

    def __init__(self, detail: str | None = None) -> None:
        """`detail` replaces the class docstring's first paragraph as the message. Libraries quote
        in theirs what they found in a file, of whatever length and kind; it is stored as text.
        """
        said = detail or (type(self).__doc__ or "").strip().split("\n\n")[0]
        self.detail = without_unstorable_text(said)[:MAX_DETAIL_CHARS]
        super().__init__(self.detail)

    @property
    def message(self) -> str:
        """What happened and what to do, in one line, fit for a report."""
        return f"{self.detail.rstrip('.')}. {self.remedy}"
