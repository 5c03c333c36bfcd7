"""Stages of a stream of frames: each works ahead of the next one, by a bounded number of frames."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

_END = object()


class BusyTime:
    """Adds up the time during which at least one thread was in it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0
        self.seconds = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = time.perf_counter()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self.seconds += time.perf_counter() - self._since


def in_order(
    items: Iterable[T], work: Callable[[T], R], threads: Executor, depth: int
) -> Iterator[R]:
    """The results of `work` in the order of the items, with at most `depth` of them under way."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(threads.submit(work, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def ahead(items: Iterator[T], depth: int) -> Generator[Iterator[T]]:
    """Read a stream in a thread of its own, at most `depth` items ahead of the reader.

    An error of the stream is raised to the reader. Leaving the context stops the thread.
    """
    reader = _Ahead(items, depth)
    reader.start()
    try:
        yield reader.items()
    finally:
        reader.stop()


class _Ahead(Generic[T]):
    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[object] = queue.Queue(max(1, depth))
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="clip-ahead", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def items(self) -> Iterator[T]:
        while (item := self._queue.get()) is not _END:
            yield cast(T, item)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._stopped.set()
        self._drain()
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as error:  # it belongs to the reader, whatever it is
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
            self._put(_END)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def _drain(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            return
