"""Lets batches run side by side, or one alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedExclusiveLock:
    """Who wants to be alone waits for those inside, and those who come later wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._exclusive_waiting = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Beside others of this kind."""
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive_waiting)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """With nobody else inside."""
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive_waiting)
            self._exclusive_waiting = True
            self._changed.wait_for(lambda: self._sharing == 0)
        try:
            yield
        finally:
            with self._changed:
                self._exclusive_waiting = False
                self._changed.notify_all()
