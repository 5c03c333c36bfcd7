"""A lock that threads get in the order in which they asked for it."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_S = 0.2
"""Time after which a thread that may give up its turn looks whether it should."""


class TurnGivenUpError(Exception):
    """A thread that lent the lock did not take it again."""


class FifoLock:
    """A mutual exclusion, first come first served. Python's own lock lets a thread that releases it
    take it again before those that wait. Its holder may enter it again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turns: deque[object] = deque()
        self._mine = threading.local()

    @property
    def _depth(self) -> int:
        """How often this thread has entered it."""
        depth: int = getattr(self._mine, "depth", 0)
        return depth

    def __enter__(self) -> None:
        if not self._depth:
            self._take(None)
        self._mine.depth = self._depth + 1

    def __exit__(self, *_: object) -> None:
        depth = self._depth
        if depth == 1:
            self._release()
        self._mine.depth = max(0, depth - 1)  # it is 0 already after TurnGivenUpError

    @contextmanager
    def lent(self, give_up: Callable[[], bool]) -> Iterator[None]:
        """Let other threads have it meanwhile; then wait for another turn. The thread holds it.

        Raises TurnGivenUpError if `give_up` says so while it waits: then it does not hold it any
        more.
        """
        depth = self._depth
        self._mine.depth = 0
        self._release()
        try:
            yield
        finally:
            if not self._take(give_up):
                raise TurnGivenUpError
            self._mine.depth = depth

    def _take(self, give_up: Callable[[], bool] | None) -> bool:
        ticket = object()
        with self._changed:
            self._turns.append(ticket)
            while self._turns[0] is not ticket:
                self._changed.wait(None if give_up is None else LOOK_S)
                if give_up is not None and self._turns[0] is not ticket and give_up():
                    self._turns.remove(ticket)
                    return False
        return True

    def _release(self) -> None:
        with self._changed:
            self._turns.popleft()
            self._changed.notify_all()
