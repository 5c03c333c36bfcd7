"""Detects work that takes too long: an image in native code, a batch, an event loop that stopped.

Python cannot stop a thread inside a C decoder, or one that waits for a hanging device. So the
watchdog reports what hangs, and its listener ends the process. Only time in which the process runs
counts: after SIGSTOP or a suspended machine the watchdog reports nothing.
"""

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.telemetry import get_logger
from worker.concurrency.lock_watch import LockWatch

log = get_logger(__name__)

TICK_S = 1.0

GIL_HELD_GRACE_S = 30.0
"""Native code that never releases the GIL blocks the watchdog, too. If the limit plus this time
passes without a tick, a child process ends this one.
"""

MAX_SILENCE_S = 90.0
"""Longest time without a tick. It is longer than the listener needs to record a failed image while
the database is unavailable.
"""

Stuck = Callable[[str | None, str, float], None]
"""Called with an item's id (None: no single image), the stage and the limit in seconds."""


class Watchdog:
    """Tracks what is being processed and since when. Thread-safe; inactive until `start`."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._tick_s = min(TICK_S, limit_s / 4)
        self._clock_s = 0.0
        self._ticked: float | None = None
        self._watched: dict[int, tuple[str | None, str, float, float]] = {}
        """By number: item, stage, start time on the watchdog's clock, limit in seconds."""
        self._lock = threading.Lock()
        self._next = 0
        self._reasons: set[str] = set()
        """Why no child could be started, since the last one was."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(
        self, item_id: str | None, stage: str, limit_s: float | None = None
    ) -> Iterator[Callable[[], None]]:
        """Watch a stage within the `with` block, with `limit_s` or the watchdog's own limit. The
        yielded function restarts the time, for endless work such as an event loop.
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
        """Whether the watchdog ticks, or has not been started."""
        return self._ticked is None or time.monotonic() - self._ticked < MAX_SILENCE_S

    def start(self, on_stuck: Stuck) -> None:
        """Start the thread. It calls `on_stuck` once for each hanging stage."""
        if not faulthandler.is_enabled():
            faulthandler.enable(sys.__stderr__ or sys.stderr)
        lock_watch = LockWatch(self._limit_s + GIL_HELD_GRACE_S, self._tick_s)
        # Before the thread: native code may keep the lock from its first moment.
        self._beat(lock_watch)
        self._thread = threading.Thread(
            target=self._run, args=(on_stuck, lock_watch), name="watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, on_stuck: Stuck, lock_watch: LockWatch) -> None:
        told: set[int] = set()
        before = time.monotonic()
        while not self._stopping.is_set():
            self._beat(lock_watch)
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
        lock_watch.stop()

    def _beat(self, lock_watch: LockWatch) -> None:
        try:
            lock_watch.beat()
            self._reasons.clear()
        except OSError as error:  # no room for another process: it is tried again at each tick
            if str(error) not in self._reasons:
                self._reasons.add(str(error))
                log.warning("lock-watch-not-started", detail=str(error))
