"""A thread pool that runs the work of small batches first.

A batch of one image would otherwise wait behind all images of full batches at every stage. The
threads stay equally busy, and the full batches continue afterwards.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from shared.errors import TransientError

P = ParamSpec("P")
T = TypeVar("T")

Work = Callable[[], None]


class SmallestBatchFirstPool:
    """A pool with a fixed number of threads. Thread-safe. Call `shutdown` at the end."""

    def __init__(self, threads: int, name: str) -> None:
        self._waiting: list[tuple[int, bool, int, Work]] = []
        self._turn = itertools.count()
        self._changed = threading.Condition()
        self._ended = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}_{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> "Future[T]":
        """Run `work`, which belongs to a batch of `size` images: before work of larger batches,
        after earlier work of batches of the same size. Raises TransientError after `shutdown`: what
        still runs then, in a worker that ends in an unusual way, is tried again by another one.
        """
        return self._push(size, False, lambda: work(*args, **kwargs))

    def submit_last(
        self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> "Future[T]":
        """The same, but after all `submit`ted work of batches of this size, too."""
        return self._push(size, True, lambda: work(*args, **kwargs))

    def _push(self, size: int, last: bool, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()

        def step() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._changed:
            if self._ended:
                raise TransientError("The worker ends")
            heapq.heappush(self._waiting, (size, last, next(self._turn), step))
            self._changed.notify()
        return future

    def shutdown(self) -> None:
        """Wait for all submitted work, then end the threads."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._ended:
                        return
                    self._changed.wait()
                *_, step = heapq.heappop(self._waiting)
            step()
            del step  # otherwise the last photo stays in memory until the next work arrives
