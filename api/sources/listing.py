"""Lists prefixes and lists of photos in pages of items, starting where the listing stopped."""

import json
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from typing import IO, Any
from urllib.parse import quote

from api.schemas.sources import Feed
from api.sources.feeds import RowWithoutPhoto
from api.sources.listed_pages import Page, Pause
from api.sources.manifests import read_rows
from api.sources.rows import RowReader
from api.sources.source_policy import SourcePolicy, name_under
from shared.errors import BadManifestError, ForbiddenSourceError, MattingError
from shared.job_store import NewItem
from shared.models import Job
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.photo_names import is_never_a_photo
from shared.settings import Settings
from shared.storage import Storage

ROWS_PER_PAGE = 5_000
PAGE_BYTES = 1024**2
"""Approximate bytes of a manifest per page: rows of 64 KiB need thirty times as much memory if they
contain only brackets.
"""
SKIPPED_BYTES = 8 * 1024**2
"""Bytes before the cursor that are read again in one turn."""

EMPTY_BYTES = 64 * 1024**2
"""Most bytes of a list without a row, as blank lines: it is read to its next row in one turn. Excel
writes a line of commas for each row that was ever touched, at most a million.
"""

COUNTED_BYTES = 16 * 1024**2
"""Most bytes behind the damage of a list whose lines are counted."""


def pages(
    job: Job,
    storage: Storage,
    settings: Settings,
    sources: Sequence[str] | None,
) -> Generator[Page | Pause]:
    """The pages of a job's prefix or list after its cursor, and pauses. `sources`: those that its
    key may use.

    Raises what the storage raises; BadManifestError for an unreadable list.
    """
    policy = SourcePolicy(settings, job.api_key_id, sources)
    after = job.expansion_cursor
    source = job.source
    if source["kind"] == "prefix":
        return _prefix_pages(storage, ObjectUrl.parse(source["prefix"], ""), after)
    place = ObjectUrl.parse(source["object"], settings.s3_bucket)
    reader = RowReader(policy, Options.model_validate(job.options))
    feed = Feed(source["feed"]) if source.get("feed") else None
    return _row_pages(storage, place, reader, int(after or 0), feed)


def rows_as_file(rows: Iterator[dict[str, Any]]) -> IO[bytes]:
    """Rows of a request as a manifest; on disk if there are many."""
    file = tempfile.SpooledTemporaryFile(8 * 1024**2)  # noqa: SIM115 - the caller closes it
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    file.seek(0)
    return file


def _prefix_pages(storage: Storage, source: ObjectUrl, after: str | None) -> Generator[Page]:
    while keys := storage.list_page(source, after=after):
        items = [
            listed_item(source, key)
            for key in keys
            if not is_never_a_photo(key[len(source.key) :] or key)
        ]
        after = keys[-1]
        yield Page(items, after)


def listed_item(prefix: ObjectUrl, key: str) -> NewItem:
    """The image of an object below a prefix. One whose key readers understand differently fails: a
    line end in it would begin a mark, and the object named before that would be cut out instead.
    """
    name, place = name_under(prefix.key, key), f"s3://{prefix.bucket}/{key}"
    try:
        return NewItem(name=name, source=str(ObjectUrl.parse(place, "")))
    except ForbiddenSourceError as error:
        return NewItem(name=name, source=quote(place, safe=":/", errors="replace"), error=error)


def _row_pages(
    storage: Storage, place: ObjectUrl, reader: RowReader, after: int, feed: Feed | None
) -> Generator[Page | Pause]:
    with closing(storage.stream(place.bucket, place.key)) as chunks:
        text = _Counted(chunks)
        rows = _noted(read_rows(text, feed), text)
        number, ended = after, False
        try:
            yield from _skip(rows, text, after)
        except BadManifestError as error:  # it is another file now
            error.detail += f". {_what_is_missing(text, number)}"
            raise
        while not ended:
            items: list[NewItem] = []
            without_photo = 0
            page_ends_at = text.read_bytes + PAGE_BYTES
            broken: BadManifestError | None = None
            try:
                for row in islice(rows, ROWS_PER_PAGE):
                    number += 1
                    if isinstance(row, RowWithoutPhoto):
                        without_photo += 1
                    else:
                        items.append(reader.item(row, number))
                    if text.read_bytes > page_ends_at:
                        break
                else:
                    ended = len(items) + without_photo < ROWS_PER_PAGE
            except BadManifestError as error:
                broken = error
            if items or without_photo:  # rows before the damage are kept
                yield Page(items, str(number), without_photo)
            if broken is not None:
                broken.detail += f". {_what_is_missing(text, number)}"
                raise broken


def _skip(rows: Iterator[dict[str, Any]], text: "_Counted", count: int) -> Iterator[Pause]:
    """Read the rows before the cursor again, a part in each turn."""
    turn_ends_at = text.read_bytes + SKIPPED_BYTES
    for _ in islice(rows, count):
        if text.read_bytes > turn_ends_at:
            yield Pause()
            turn_ends_at = text.read_bytes + SKIPPED_BYTES


def _what_is_missing(text: "_Counted", number: int) -> str:
    """How much of a list was not read, as far as it is known."""
    more = "" if text.count_lines(COUNTED_BYTES) else "more than "
    return (
        f"The rows behind it are missing: {number:,} were read, "
        f"the file has {more}{text.lines:,} lines"
    )


class _Counted:
    """Chunks of a file, and the number of bytes and line ends so far."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.read_bytes = 0
        self.lines = 0
        self.last_row_at = 0
        """`read_bytes` at the last row."""
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        """Raises BadManifestError if no row comes for EMPTY_BYTES."""
        for chunk in self._chunks:
            self._count(chunk)
            if self.read_bytes - self.last_row_at > EMPTY_BYTES:
                raise BadManifestError(f"{EMPTY_BYTES:,} bytes contain no row")
            yield chunk

    def count_lines(self, most_bytes: int) -> bool:
        """Count the lines of up to `most_bytes` more; returns whether the file ends there."""
        ends_at = self.read_bytes + most_bytes
        with suppress(MattingError):
            for chunk in self._chunks:
                self._count(chunk)
                if self.read_bytes > ends_at:
                    return False
            return True
        return False

    def _count(self, chunk: bytes) -> None:
        self.read_bytes += len(chunk)
        self.lines += chunk.count(b"\n") or chunk.count(b"\r")


def _noted(rows: Iterator[dict[str, Any]], text: _Counted) -> Iterator[dict[str, Any]]:
    for row in rows:
        text.last_row_at = text.read_bytes
        yield row
