"""The pictures that options put behind subjects: read once, kept decoded for a while.

Reading has threads of its own, and each picture is read once for all who wait for it: one that is
missing, damaged or slow holds up the images that need it, and no others.
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
"""A picture that was replaced under the same key is seen after this long."""

FAILURE_KEPT_S = 30
"""A picture that could not be read is tried again after this long, and not for every image."""

KEPT_BYTES = 256 * 1024**2
"""Of decoded pictures; a job has one or two, of 3 bytes a pixel."""

KEPT_ENTRIES = 256
"""Pictures and failures; a failure takes no bytes worth counting."""

THREADS = 2

Read = Callable[[str, str], Image]
"""Bucket and key → decoded picture; raises MattingError."""


@dataclass(slots=True)
class _Entry:
    """A picture that is read or was read."""

    picture: "Future[Image]"
    until: float | None = None
    """On the monotonic clock: good for so long; None while it is read."""
    size_bytes: int = 0


class BackgroundPictures:
    """A cache that reads in threads of its own. Thread-safe; `close` it after its last caller."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.RLock()  # a reader may be done before `load` returns
        self._threads = SmallestBatchFirstPool(THREADS, "picture")

    def load(self, url: str) -> "Future[Image]":
        """The picture [H, W, 3] uint8 RGB behind an `s3://` URL, from now on or already read. The
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
        """Wait for what is being read and end the threads."""
        self._threads.shutdown()

    def _fresh(self, url: str) -> Image:
        place = ObjectUrl.parse(url, "")
        try:
            return self._read(place.bucket, place.key)
        except ImageError as error:
            raise BackgroundUnreadableError(f"{url}: {error.detail}") from error

    def _loaded(self, url: str, entry: _Entry) -> None:
        """Keep what will be the same the next time: the picture, or that it can't be read."""
        error = entry.picture.exception()
        with self._lock:
            if error is None:
                entry.until = time.monotonic() + KEPT_S
                entry.size_bytes = entry.picture.result().nbytes
            elif isinstance(error, InvalidOptionsError):
                entry.until = time.monotonic() + FAILURE_KEPT_S
            elif self._entries.get(url) is entry:  # the storage's error: the next image asks again
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
