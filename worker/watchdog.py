"""Notices an image that native code has been busy with for too long.

A thread inside a C decoder can't be stopped, so all that is left is to name the image and to end
the process; that is the listener's to do. Time counts only while the process runs: a worker that
was stopped (SIGSTOP, a suspended machine) finds no image guilty when it wakes up.
"""

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TICK_S = 1.0

GIL_HELD_GRACE_S = 30.0
"""Native code that never lets go of the interpreter's lock silences the watchdog itself. After the
limit and this long without a tick, the process is ended from C, where that lock doesn't count."""

Stuck = Callable[[str, str, float], None]
"""Hears of an item's id, its stage and the limit in seconds."""


class Watchdog:
    """Knows what is being worked on, and since when. Thread-safe; inert until `start`."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._tick_s = min(TICK_S, limit_s / 4)
        self._clock_s = 0.0
        self._watched: dict[int, tuple[str, str, float]] = {}
        self._lock = threading.Lock()
        self._next = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, item_id: str, stage: str) -> Iterator[None]:
        """While this lasts, the item is in native code."""
        with self._lock:
            self._next += 1
            number = self._next
            self._watched[number] = (item_id, stage, self._clock_s)
        try:
            yield
        finally:
            with self._lock:
                del self._watched[number]

    def start(self, on_stuck: Stuck) -> None:
        """Begin; `on_stuck` is called in the watchdog's thread, once for each image."""
        self._thread = threading.Thread(
            target=self._run, args=(on_stuck,), name="watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def _run(self, on_stuck: Stuck) -> None:
        told: set[int] = set()
        before = time.monotonic()
        while not self._stopping.is_set():
            faulthandler.dump_traceback_later(
                self._limit_s + GIL_HELD_GRACE_S, exit=True, file=sys.__stderr__ or sys.stderr
            )
            self._stopping.wait(self._tick_s)
            now = time.monotonic()
            with self._lock:
                self._clock_s += min(now - before, 2 * self._tick_s)
                stuck = [
                    (number, item_id, stage)
                    for number, (item_id, stage, since) in self._watched.items()
                    if self._clock_s - since > self._limit_s and number not in told
                ]
            before = now
            for number, item_id, stage in stuck:
                told.add(number)
                on_stuck(item_id, stage, self._limit_s)
