"""A lock with which batches run side by side, or one batch runs alone."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class SharedExclusiveLock:
    """A shared/exclusive lock. A waiting exclusive holder blocks later shared holders: the slow
    ones (photos by URL) from the start, the others only after the last slow one has ended. So
    nobody else waits for a server that does not answer.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._sharing_slowly = 0
        self._exclusive_announced = False
        self._exclusive_waiting = False
        self._waiting_since: float | None = None
        self.is_held_alone = False
        """Whether a holder is alone; whoever holds the lock then is that one."""

    @property
    def exclusive_waits_s(self) -> float:
        """For how long an exclusive holder has waited for the shared ones [s]; 0: none waits."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    @contextmanager
    def shared(self, *, slow: bool = False) -> Iterator[None]:
        """Hold the lock together with other shared holders. `slow`: possibly for long."""
        with self._changed:
            self._changed.wait_for(
                lambda: not (self._exclusive_announced if slow else self._exclusive_waiting)
            )
            self._sharing += 1
            self._sharing_slowly += slow
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._sharing_slowly -= slow
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive_announced)
            self._exclusive_announced = True
            self._waiting_since = time.monotonic()
            self._changed.wait_for(lambda: self._sharing_slowly == 0)
            self._exclusive_waiting = True
            self._changed.wait_for(lambda: self._sharing == 0)
            self._waiting_since = None
            self.is_held_alone = True
        try:
            yield
        finally:
            with self._changed:
                self.is_held_alone = False
                self._exclusive_announced = self._exclusive_waiting = False
                self._changed.notify_all()
