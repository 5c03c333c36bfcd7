"""Lists zip files: each is downloaded in a thread of its own, then unpacked page by page."""

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import IO, cast

from api.sources.archive_disk import ArchiveDisk
from api.sources.archives import Archive, UnpackedClip
from api.sources.listed_pages import Page, Pause
from api.sources.source_policy import OWN_PREFIX
from shared.errors import BadArchiveError, TransientError
from shared.models import Job
from shared.object_url import ObjectUrl
from shared.settings import Settings
from shared.storage import WHOLE_BYTES, Storage

PHOTOS_PER_PAGE = 64
"""Photos of a zip file per page: stored in parallel, then recorded."""

ZIPS_AT_ONCE = 4
"""Most zip files that a process downloads or has open. Each takes a thread while it is downloaded,
a descriptor, disk space, and memory for its list of entries.
"""

STORE_THREADS = 8
"""Threads that store photos of all zip files. One file is unpacked at a time."""

PENDING_BYTES = 64 * 1024**2
"""Most bytes of unpacked photos in memory: a zip file of 2 MB can contain 64 photos of 40 MB."""


class ZipListings:
    """The threads and the disk space that all zip files share."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._settings = settings
        self._disk = ArchiveDisk(settings.archive_disk_bytes)
        self._downloads = ThreadPoolExecutor(ZIPS_AT_ONCE, "zip-download")
        self._storing = ThreadPoolExecutor(STORE_THREADS, "zip-store")

    def pages(self, job: Job) -> Generator[Page | Pause]:
        """The pages of a job's zip file after its cursor. While it is downloaded, pauses. Raises
        BadArchiveError, ArchiveTooLargeError, DiskFullError, ImageError, TransientError.
        """
        place = ObjectUrl.parse(job.source["object"], self._settings.s3_bucket)
        after = int(job.expansion_cursor or 0)
        size = self._storage.size(place.bucket, place.key)
        limit = self._settings.max_archive_bytes
        if size > limit:
            raise BadArchiveError(f"The zip file has {size:,} bytes; the limit is {limit:,}")
        closed = threading.Event()
        store = _StoreInParallel(self._storage, self._storing)
        with self._disk.file(size) as file:
            try:
                download = self._downloads.submit(
                    _fetch, self._storage, place, file, size, closed.is_set
                )
                while not download.done():
                    yield Pause(download)
                download.result()
                archive = Archive(file, self._settings)
                items = archive.items(after=after, key_of=_input_key(job), store=store)
                while page := list(islice(items, PHOTOS_PER_PAGE)):
                    store.finish()
                    after += len(page)
                    yield Page(page, str(after))
            finally:
                closed.set()  # a download in progress ends with its next chunk
                store.give_up()

    def close(self) -> None:
        """Take no more work. Close the listings first."""
        self._downloads.shutdown(wait=False, cancel_futures=True)
        self._storing.shutdown(wait=False, cancel_futures=True)


class _StoreInParallel:
    """Stores the photos of one zip file in parallel; the bytes in progress are limited."""

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

    def give_up(self) -> None:
        """Begin no more, and wait for the photos in progress, whatever comes of them."""
        futures = [future for _, future in self._pending]
        self._pending.clear()
        wait([future for future in futures if not future.cancel()])

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
        """Start storing a photo. Raises TransientError if no thread can be started, or the process
        stops.
        """
        try:
            future = self._pool.submit(self._storage.put, key, data, "application/octet-stream")
        except RuntimeError as error:
            raise TransientError(f"The photos of a zip file can't be stored: {error}") from error
        self._pending.append((len(data), future))
        self._pending_bytes += len(data)
        return f"s3://{self._storage.bucket}/{key}"


def _input_key(job: Job) -> Callable[[int], str]:
    return lambda number: f"{OWN_PREFIX}{job.id}/inputs/{number:06d}"


def _fetch(
    storage: Storage, place: ObjectUrl, file: IO[bytes], size: int, is_closed: Callable[[], bool]
) -> None:
    """`size`: the reserved disk space."""
    left = size
    for chunk in storage.stream(place.bucket, place.key):
        if is_closed():
            return
        left -= len(chunk)
        if left < 0:
            raise BadArchiveError("A larger file replaced the zip file in the meantime")
        file.write(chunk)
