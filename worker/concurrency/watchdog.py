"""Notices what takes too long: an image in native code, a batch, a loop that turns no more.

A thread inside a C decoder can't be stopped, nor one that waits for a device that hangs, so all
that is left is to name what it is about and to end the process; that is the listener's to do. Time
counts only while the process runs: a worker that was stopped (SIGSTOP, a suspended machine) finds
nothing guilty when it wakes up.
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

MAX_SILENCE_S = 90.0
"""Without a tick; longer than it takes the listener to fail an image in a database that is away."""

Stuck = Callable[[str | None, str, float], None]
"""Hears of an item's id (None: no single one), the stage and the limit in seconds."""


class Watchdog:
    """Knows what is being worked on, and since when. Thread-safe; inert until `start`."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._tick_s = min(TICK_S, limit_s / 4)
        self._clock_s = 0.0
        self._ticked: float | None = None
        self._watched: dict[int, tuple[str | None, str, float, float]] = {}
        """By number: item, stage, since when on our clock, limit in seconds."""
        self._lock = threading.Lock()
        self._next = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(
        self, item_id: str | None, stage: str, limit_s: float | None = None
    ) -> Iterator[Callable[[], None]]:
        """While this lasts, the stage is under way; it has `limit_s`, or the watchdog's own. What
        it gives starts the time anew: for what goes on for ever as long as it turns.
        """
        limit_s = self._limit_s if limit_s is None else limit_s
        with self._lock:
            self._next += 1
            number = self._next
            self._watched[number] = (item_id, stage, self._clock_s, limit_s)

        def turned() -> None:
            with self._lock:
                if number in self._watched:
                    self._watched[number] = (item_id, stage, self._clock_s, limit_s)

        try:
            yield turned
        finally:
            with self._lock:
                del self._watched[number]

    def turns(self) -> bool:
        """Whether it ticks, or was not started yet."""
        return self._ticked is None or time.monotonic() - self._ticked < MAX_SILENCE_S

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
                    (number, item_id, stage, limit_s)
                    for number, (item_id, stage, since, limit_s) in self._watched.items()
                    if self._clock_s - since > limit_s and number not in told
                ]
            before = self._ticked = now
            for number, item_id, stage, limit_s in stuck:
                told.add(number)
                on_stuck(item_id, stage, limit_s)
