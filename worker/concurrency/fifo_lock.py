"""A lock that threads get in the order in which they asked for it."""

import threading
from collections import deque


class FifoLock:
    """A mutual exclusion, first come first served. Python's own lock lets a thread that releases it
    take it again before those that wait.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turns: deque[object] = deque()

    def __enter__(self) -> None:
        ticket = object()
        with self._changed:
            self._turns.append(ticket)
            self._changed.wait_for(lambda: self._turns[0] is ticket)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._turns.popleft()
            self._changed.notify_all()
