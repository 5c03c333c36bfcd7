"""A thread that repeats a task with pauses: the base of all background work."""

import threading
from abc import ABC, abstractmethod

from shared.errors import MattingError
from shared.telemetry import get_logger

log = get_logger(__name__)

AFTER_ERROR_S = 1.0

STOP_S = 30.0
"""How long a task that stops may end its round."""


class PeriodicTask(ABC):
    """Call `start` once, and `stop` before closing what the task uses. An exception is logged, and
    the next round tries again.
    """

    def __init__(self, name: str) -> None:
        """`name` is the name of the thread and appears in the log."""
        self._name = name
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def round(self) -> float:
        """Do what is due; returns the seconds until the next round. Raises MattingError."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Start the next round at once."""
        self._woken.set()

    def stop(self) -> None:
        """Stop after the current round. It may go on behind this call if it takes STOP_S."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            wait_s = AFTER_ERROR_S
            try:
                wait_s = self.round()
            except MattingError as error:
                # A service is unavailable. All pending work is in the database, so the next round
                # continues.
                log.warning(f"{self._name}-failed", code=error.code, detail=error.detail)
            except Exception:
                log.exception(f"{self._name}-failed")
            if not self._stopping.is_set():
                self._woken.wait(wait_s)
