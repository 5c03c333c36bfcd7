"""The pictures that options put behind subjects: read once, kept decoded for a while."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from shared.errors import BackgroundUnreadableError, ImageError
from shared.object_url import ObjectUrl
from worker.imaging.arrays import Image

KEPT = 8
"""Pictures kept; a job has one or two."""

KEPT_S = 120
"""A picture that was replaced under the same key is seen after this long."""

Read = Callable[[str, str], Image]
"""Bucket and key → decoded picture; raises MattingError."""


class BackgroundPictures:
    """A small cache. Thread-safe."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._kept: OrderedDict[str, tuple[float, Image]] = OrderedDict()
        self._lock = threading.Lock()

    def get_many(self, urls: Iterable[str]) -> dict[str, Image]:
        """The pictures by URL. Raises BackgroundUnreadableError, TransientError."""
        return {url: self._get(url) for url in urls}

    def _get(self, url: str) -> Image:
        # Read under the lock: a batch that needs one picture reads it once.
        with self._lock:
            found = self._kept.get(url)
            if found is not None and time.monotonic() - found[0] < KEPT_S:
                self._kept.move_to_end(url)
                return found[1]
            place = ObjectUrl.parse(url, "")
            try:
                picture = self._read(place.bucket, place.key)
            except ImageError as error:
                raise BackgroundUnreadableError(f"{url}: {error.detail}") from error
            self._kept[url] = (time.monotonic(), picture)
            self._kept.move_to_end(url)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return picture
