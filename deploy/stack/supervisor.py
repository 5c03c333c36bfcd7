"""The supervisor of the embedded stack: restarts crashed processes and rotates their logs.

A job that runs overnight must not wait until somebody notices a crash. A process that exits with
status 0 is not restarted.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from deploy.stack.processes import Process

CHECK_INTERVAL_S = 0.5
MIN_RESTART_DELAY_S = 0.5
MAX_RESTART_DELAY_S = 60.0
STABLE_AFTER_S = 300.0
"""A process that ran this long starts with MIN_RESTART_DELAY_S again."""


class Supervisor:
    """Watches processes in its own thread and restarts them with increasing delays.

    The thread must outlive the processes: the kernel signals a child when the thread that started
    it ends. So call `start`, `pause`, stop the processes, then `close`.
    """

    def __init__(self, processes: Sequence[Process], report: Callable[[str], None]) -> None:
        """`processes` may grow later. `report` is called with a line for each unexpected end."""
        self._processes = processes
        self._report = report
        self._delays_s: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._paused = threading.Event()
        self._closed = threading.Event()
        self._restart_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def pause(self) -> None:
        """Restart nothing from now on."""
        with self._restart_lock:
            self._paused.set()

    def close(self) -> None:
        """End the thread. Call it after the processes have ended."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._paused.wait(CHECK_INTERVAL_S):
            for process in list(self._processes):
                process.rotate_log()
                if process.should_run and not process.alive() and process.popen.returncode != 0:
                    self._restart_when_due(process)
        self._closed.wait()

    def _restart_when_due(self, process: Process) -> None:
        now = time.monotonic()
        if process.name not in self._due:
            if now - process.started > STABLE_AFTER_S:
                self._delays_s.pop(process.name, None)
            wait_s = self._wait_longer(process)
            self._tell(
                f"{process.name} ended with status {process.popen.returncode}; restarting it in "
                f"{wait_s:.1f} s; log: {process.log}"
            )
        elif now >= self._due[process.name]:
            with self._restart_lock:
                if self._paused.is_set() or not process.should_run:
                    return
                try:
                    process.restart()
                except (OSError, subprocess.SubprocessError) as error:  # no memory for a process
                    wait_s = self._wait_longer(process)
                    self._tell(
                        f"{process.name} can't be started ({error}); trying again in {wait_s:.1f} s"
                    )
                else:
                    del self._due[process.name]

    def _wait_longer(self, process: Process) -> float:
        """Set when the process is started next; returns in how many seconds."""
        last_s = self._delays_s.get(process.name, 0.0)
        wait_s = min(max(MIN_RESTART_DELAY_S, 2 * last_s), MAX_RESTART_DELAY_S)
        self._delays_s[process.name] = wait_s
        self._due[process.name] = time.monotonic() + wait_s
        return wait_s

    def _tell(self, line: str) -> None:
        with suppress(OSError, ValueError):  # the terminal has been closed
            self._report(line)
