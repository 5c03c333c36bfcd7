"""A budget for decoded pixels in memory: large photos wait for each other, small ones do not."""

import threading
from collections import deque


class PixelBudget:
    """A number of pixels that threads acquire and release. Thread-safe.

    A thread that holds pixels must not wait for more: two such threads would block each other. A
    request larger than the budget gets the whole budget.
    """

    def __init__(self, pixels: int) -> None:
        self._all = self._free = pixels
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    def acquire(self, pixels: int) -> int:
        """Wait for `pixels`, first come first served; returns the number to release."""
        wanted, ticket = min(pixels, self._all), object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and wanted <= self._free)
            self._waiting.popleft()
            self._free -= wanted
            self._changed.notify_all()
        return wanted

    def try_acquire(self, pixels: int) -> bool:
        """Acquire `pixels` if they are free and no thread is waiting; returns whether it did."""
        with self._changed:
            if self._waiting or pixels > self._free:
                return False
            self._free -= pixels
            return True

    def release(self, pixels: int) -> None:
        """Return pixels to the budget."""
        with self._changed:
            self._free += pixels
            self._changed.notify_all()
