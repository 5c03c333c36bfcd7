"""Lists sources in pages of items, starting where the listing stopped."""

import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, cast

from api.schemas.sources import Feed
from api.sources.archive_disk import ArchiveDisk
from api.sources.archives import Archive, UnpackedClip
from api.sources.feeds import RowWithoutPhoto
from api.sources.manifests import read_rows
from api.sources.rows import RowReader
from api.sources.source_policy import OWN_PREFIX, SourcePolicy, name_under
from shared.errors import BadArchiveError, BadManifestError, MattingError
from shared.job_store import NewItem
from shared.models import Job
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.photo_names import is_never_a_photo
from shared.settings import Settings
from shared.storage import WHOLE_BYTES, Storage

ROWS_PER_PAGE = 5_000
PAGE_BYTES = 1024**2
"""Approximate bytes of a manifest per page: rows of 64 KiB need thirty times as much memory if they
contain only brackets.
"""
PHOTOS_PER_PAGE = 64
"""Photos of a zip file per page: stored in parallel, then recorded."""

STORE_THREADS = 8

PENDING_BYTES = 64 * 1024**2
"""Most bytes of unpacked photos in memory: a zip file of 2 MB can contain 64 photos of 40 MB."""


@dataclass(frozen=True, slots=True)
class Page:
    """Items of a source, and the progress of the listing after them."""

    items: list[NewItem]
    cursor: str
    without_photo: int = 0
    """Rows that were left out, since their export has rows without a photo."""


def pages(
    job: Job,
    storage: Storage,
    settings: Settings,
    sources: Sequence[str] | None,
    disk: ArchiveDisk,
) -> Iterator[Page]:
    """The pages of a job's source after its cursor. `sources`: those that its key may use.

    Raises what storage and disk raise; BadManifestError or BadArchiveError for an unreadable
    source.
    """
    policy = SourcePolicy(settings, job.api_key_id, sources)
    after = job.expansion_cursor
    source = job.source
    if source["kind"] == "prefix":
        return _prefix_pages(storage, ObjectUrl.parse(source["prefix"], ""), after)
    place = ObjectUrl.parse(source["object"], settings.s3_bucket)
    if source["kind"] == "zip":
        return _zip_pages(job, storage, settings, place, int(after or 0), disk)
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


def _prefix_pages(storage: Storage, source: ObjectUrl, after: str | None) -> Iterator[Page]:
    while keys := storage.list_page(source, after=after):
        items = [
            NewItem(name=name_under(source.key, key), source=f"s3://{source.bucket}/{key}")
            for key in keys
            if not is_never_a_photo(key[len(source.key) :] or key)
        ]
        after = keys[-1]
        yield Page(items, after)


def _row_pages(
    storage: Storage, place: ObjectUrl, reader: RowReader, after: int, feed: Feed | None
) -> Iterator[Page]:
    text = _Counted(storage.stream(place.bucket, place.key))
    rows = islice(read_rows(text, feed), after, None)
    number, ended = after, False
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


def _what_is_missing(text: "_Counted", number: int) -> str:
    """How much of a list was not read, as far as it is known."""
    with suppress(MattingError):
        for _ in text:
            pass
    return (
        f"The rows behind it are missing: {number:,} were read, the file has {text.lines:,} lines"
    )


class _Counted:
    """Chunks of a file, and the number of bytes and line ends so far."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.read_bytes = 0
        self.lines = 0
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.read_bytes += len(chunk)
            self.lines += chunk.count(b"\n") or chunk.count(b"\r")
            yield chunk


def _zip_pages(
    job: Job,
    storage: Storage,
    settings: Settings,
    place: ObjectUrl,
    after: int,
    disk: ArchiveDisk,
) -> Iterator[Page]:
    size, limit = storage.size(place.bucket, place.key), settings.max_archive_bytes
    if size > limit:
        raise BadArchiveError(f"The zip file has {size:,} bytes; the limit is {limit:,}")
    with (
        disk.file(size) as file,
        ThreadPoolExecutor(STORE_THREADS) as pool,
    ):
        _fetch(storage, place, file, size)
        store = _StoreInParallel(storage, pool)
        items = Archive(file, settings).items(after=after, key_of=_input_key(job), store=store)
        while page := list(islice(items, PHOTOS_PER_PAGE)):
            store.finish()
            after += len(page)
            yield Page(page, str(after))


class _StoreInParallel:
    """Stores photos in parallel; the bytes in progress are limited."""

    def __init__(self, storage: Storage, pool: ThreadPoolExecutor) -> None:
        self._storage = storage
        self._pool = pool
        self._pending: deque[tuple[int, Future[None]]] = deque()
        self._pending_bytes = 0

    def make_room(self, size_bytes: int) -> None:
        """Wait until `size` of PENDING_BYTES are free. Raises what storing a photo raised."""
        while self._pending and self._pending_bytes + size_bytes > PENDING_BYTES:
            self._wait_for_oldest()

    def finish(self) -> None:
        """Wait for all photos. Raises what storing a photo raised."""
        while self._pending:
            self._wait_for_oldest()

    def _wait_for_oldest(self) -> None:
        stored_bytes, future = self._pending.popleft()
        future.result()
        self._pending_bytes -= stored_bytes

    def upload(self, key: str, clip: UnpackedClip) -> str:
        """Store a clip; parts of it are in memory meanwhile."""
        self.make_room(WHOLE_BYTES)
        self._storage.upload(key, cast(IO[bytes], clip))
        return f"s3://{self._storage.bucket}/{key}"

    def put(self, key: str, data: bytearray) -> str:
        """Start storing a photo."""
        future = self._pool.submit(self._storage.put, key, data, "application/octet-stream")
        self._pending.append((len(data), future))
        self._pending_bytes += len(data)
        return f"s3://{self._storage.bucket}/{key}"


def _input_key(job: Job) -> Callable[[int], str]:
    return lambda number: f"{OWN_PREFIX}{job.id}/inputs/{number:06d}"


def _fetch(storage: Storage, place: ObjectUrl, file: IO[bytes], size: int) -> None:
    """`size`: the reserved disk space."""
    left = size
    for chunk in storage.stream(place.bucket, place.key):
        left -= len(chunk)
        if left < 0:
            raise BadArchiveError("A larger file replaced the zip file in the meantime")
        file.write(chunk)
