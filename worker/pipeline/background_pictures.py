"""A cache of background pictures: each is read once and kept decoded for a while.

Pictures are read in threads of their own, once for all images that wait. A picture that is missing,
damaged or slow delays only the images that need it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from shared.errors import BackgroundUnreadableError, ImageError, InvalidOptionsError
from shared.object_url import ObjectUrl
from worker.concurrency.thread_pool import SmallestBatchFirstPool
from worker.imaging.arrays import Image

KEPT_S = 120
"""A replaced picture is used after this time at the latest."""

FAILURE_KEPT_S = 30
"""A picture that could not be read is tried again after this time, not for every image."""

KEPT_BYTES = 256 * 1024**2
"""Most bytes of decoded pictures (3 bytes a pixel). A job usually has one or two pictures."""

KEPT_ENTRIES = 256
"""Most entries, including failures, which need almost no memory."""

THREADS = 2

Read = Callable[[str, str], Image]
"""Reads bucket and key and decodes the picture; raises MattingError."""


@dataclass(slots=True)
class _Entry:
    """A picture that is being read or was read."""

    picture: "Future[Image]"
    until: float | None = None
    """Expiry on the monotonic clock; None while the picture is being read."""
    size_bytes: int = 0


class BackgroundPictures:
    """The cache and its reader threads. Thread-safe. Close it after its last caller."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.RLock()  # a reader may finish before `load` returns
        self._threads = SmallestBatchFirstPool(THREADS, "picture")

    def load(self, url: str) -> "Future[Image]":
        """Load the picture [H, W, 3] uint8 RGB of an `s3://` URL, unless it is in the cache. The
        future raises BackgroundUnreadableError or TransientError.
        """
        with self._lock:
            entry = self._entries.get(url)
            if entry is None or (entry.until is not None and time.monotonic() >= entry.until):
                picture = self._threads.submit(0, self._fresh, url)
                entry = self._entries[url] = _Entry(picture)
                picture.add_done_callback(lambda _: self._loaded(url, entry))
            self._entries.move_to_end(url)
            return entry.picture

    def close(self) -> None:
        """Wait for pictures being read, then end the threads."""
        self._threads.shutdown()

    def _fresh(self, url: str) -> Image:
        place = ObjectUrl.parse(url, "")
        try:
            return self._read(place.bucket, place.key)
        except ImageError as error:
            raise BackgroundUnreadableError(f"{url}: {error.detail}") from error

    def _loaded(self, url: str, entry: _Entry) -> None:
        """Cache the picture, or its permanent error."""
        error = entry.picture.exception()
        with self._lock:
            if error is None:
                entry.until = time.monotonic() + KEPT_S
                entry.size_bytes = entry.picture.result().nbytes
            elif isinstance(error, InvalidOptionsError):
                entry.until = time.monotonic() + FAILURE_KEPT_S
            elif self._entries.get(url) is entry:  # a storage error: the next image tries again
                del self._entries[url]
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        kept_bytes = sum(entry.size_bytes for entry in self._entries.values())
        for url, entry in list(self._entries.items()):
            if kept_bytes <= KEPT_BYTES and len(self._entries) <= KEPT_ENTRIES:
                return
            if entry.until is not None:
                kept_bytes -= entry.size_bytes
                del self._entries[url]
