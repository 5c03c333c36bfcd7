"""Writes results to a destination, so that a late writer never replaces what a later one wrote.

Each object carries the mark of its writer, which begins with the time of the claim. A writer reads
the mark first, and writes only if the object is still the one that it read (S3's conditional
writes). A storage without conditional writes ignores that: then a writer that stops between the two
requests, and goes on after another one wrote, replaces it.
"""

from datetime import UTC, datetime
from typing import IO, Protocol

from shared.errors import DestinationRefusedError, ImageError, StorageError
from shared.object_url import ObjectUrl
from shared.telemetry import get_logger

log = get_logger(__name__)

MOST_TRIES = 5
"""Writers that may come in between, before the storage is taken to be at fault."""


class MarkedObjects(Protocol):
    """A storage whose objects say who wrote them."""

    def written_by(self, place: ObjectUrl) -> tuple[str, str] | None:
        """ETag and mark of an object; None: there is none."""

    def put_unchanged(
        self,
        place: ObjectUrl,
        data: "bytes | bytearray | IO[bytes]",
        content_type: str,
        *,
        writer: str,
        etag: str | None,
    ) -> bool:
        """Write an object if its ETag is still this one; False: it is not."""


def mark(claimed_at: datetime, item_id: str) -> str:
    """The mark of a writer. Marks of later claims are greater."""
    return f"{claimed_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ} {item_id}"


def publish(
    storage: MarkedObjects,
    place: ObjectUrl,
    data: "bytes | bytearray | IO[bytes]",
    content_type: str,
    *,
    writer: str,
) -> None:
    """Write a result, unless a later claim has written the object already: then it is as if this
    one had been replaced at once.

    Raises DestinationRefusedError, StorageError.
    """
    try:
        for _ in range(MOST_TRIES):
            there = storage.written_by(place)
            if there is not None and there[1] >= writer:
                if there[1] != writer:
                    log.info("result-superseded", place=str(place), by=there[1])
                return
            if not isinstance(data, bytes | bytearray):
                data.seek(0)
            etag = there[0] if there is not None else None
            if storage.put_unchanged(place, data, content_type, writer=writer, etag=etag):
                return
    except ImageError as error:
        raise DestinationRefusedError(error.detail) from error
    if there is None:
        raise DestinationRefusedError(f"{place} exists, and the storage does not allow reading it")
    raise StorageError(f"Another program keeps writing to {place}")
