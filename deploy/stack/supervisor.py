"""Starts again what crashes or is killed, and keeps the logs small: a job that runs all night must
not wait for someone to look. What ends with status 0 was asked to, and stays so.
"""

import threading
import time
from collections.abc import Callable, Sequence

from deploy.stack.processes import Process

LOOK_EVERY_S = 0.5
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
CALM_S = 300.0
"""A part that ran this long begins with the first wait again."""


class Supervisor:
    """Watches parts from a thread of its own, which must outlive them: a child gets its parent
    thread's death signal. So: `start`, `pause`, stop the parts, `close`.
    """

    def __init__(self, parts: Sequence[Process], report: Callable[[str], None]) -> None:
        """`parts` may grow; `report` hears of each end and of what is done about it."""
        self._parts = parts
        self._report = report
        self._waits_s: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._paused = threading.Event()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def pause(self) -> None:
        """Start nothing any more."""
        with self._starting:
            self._paused.set()

    def close(self) -> None:
        """End the thread, after the parts."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._paused.wait(LOOK_EVERY_S):
            for part in list(self._parts):
                part.keep_log_small()
                if part.wanted and not part.alive() and part.popen.returncode != 0:
                    self._care_for(part)
        self._closed.wait()

    def _care_for(self, part: Process) -> None:
        now = time.monotonic()
        if part.name not in self._due:
            last_s = 0.0 if now - part.started > CALM_S else self._waits_s.get(part.name, 0.0)
            wait_s = min(max(FIRST_WAIT_S, 2 * last_s), LONGEST_WAIT_S)
            self._waits_s[part.name] = wait_s
            self._due[part.name] = now + wait_s
            self._report(
                f"{part.name} ended with status {part.popen.returncode}: it is started again in "
                f"{wait_s:.1f} s; its log: {part.log}"
            )
        elif now >= self._due[part.name]:
            del self._due[part.name]
            with self._starting:
                if not self._paused.is_set() and part.wanted:
                    part.start_again()
