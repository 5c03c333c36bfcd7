"""What the listing of a source gives: pages of items, and pauses between them."""

from concurrent.futures import Future
from dataclasses import dataclass

from shared.job_store import NewItem


@dataclass(frozen=True, slots=True)
class Page:
    """Items of a source, and the progress of the listing after them."""

    items: list[NewItem]
    cursor: str
    without_photo: int = 0
    """Rows that were left out, since their export has rows without a photo."""


@dataclass(frozen=True, slots=True)
class Pause:
    """There is no page yet: other jobs have their turn."""

    until: Future[None] | None = None
    """What the next page waits for."""
