"""Starts a worker again that crashed, was killed, or ended because a photo hung in it."""

import threading
import time
from collections.abc import Callable

from deploy.processes import Process

LOOK_S = 0.5

SHORT_LIFE_S = 60.0
"""A worker that ends within this long of its start is made to wait for the next one."""

LONGEST_WAIT_S = 30.0


class Supervisor:
    """A thread that puts a new worker in a dead one's place in the list. One that was asked to
    stop ends with status 0, and stays so.

    Children die with the thread that started them: `stop` it right before they are stopped.
    """

    def __init__(self, workers: list[Process], again: Callable[[str], Process]) -> None:
        """`again` starts the worker of a name."""
        self._workers = workers
        self._again = again
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End: what ends from now on stays so."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        starts = {worker.name: (began, 0.0) for worker in self._workers}
        while not self._stopping.wait(LOOK_S):
            for place, worker in enumerate(self._workers):
                now = time.monotonic()
                started, wait_s = starts.get(worker.name, (began, 0.0))
                if worker.popen.poll() in (None, 0) or now - started < wait_s:
                    continue
                short = now - started < SHORT_LIFE_S
                next_wait_s = min(LONGEST_WAIT_S, max(1.0, 2 * wait_s)) if short else 0.0
                self._workers[place] = self._again(worker.name)
                starts[worker.name] = (now, next_wait_s)
