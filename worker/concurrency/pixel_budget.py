"""How much a worker holds decoded at a time: large photos wait for each other, small ones don't."""

import threading
from collections import deque


class PixelBudget:
    """So many pixels. Thread-safe. Who holds some must not wait for more: two that did would wait
    for each other. What is larger than all of it gets all of it.
    """

    def __init__(self, pixels: int) -> None:
        self._all = self._free = pixels
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    def acquire(self, pixels: int) -> int:
        """Wait for so many, in the order of asking; returns what is to be given back."""
        wanted, ticket = min(pixels, self._all), object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and wanted <= self._free)
            self._waiting.popleft()
            self._free -= wanted
            self._changed.notify_all()
        return wanted

    def try_acquire(self, pixels: int) -> bool:
        """Take them if they are free and nobody waits."""
        with self._changed:
            if self._waiting or pixels > self._free:
                return False
            self._free -= pixels
            return True

    def release(self, pixels: int) -> None:
        """Others may have them."""
        with self._changed:
            self._free += pixels
            self._changed.notify_all()
