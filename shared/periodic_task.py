"""A thread that does one round after another: the shape of all that is done now and then."""

import threading
from abc import ABC, abstractmethod

from shared.errors import MattingError
from shared.telemetry import get_logger

log = get_logger(__name__)

AFTER_ERROR_S = 1.0


class PeriodicTask(ABC):
    """`start` it once, `stop` it before what its rounds use is closed. What a round raises is
    logged, and the next round tries again.
    """

    def __init__(self, name: str) -> None:
        """`name` is the thread's and stands in the log."""
        self._name = name
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def round(self) -> float:
        """Do what is due; returns the seconds to the next round. Raises MattingError."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to do: the next round begins at once."""
        self._woken.set()

    def stop(self) -> None:
        """End after the step at hand."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            wait_s = AFTER_ERROR_S
            try:
                wait_s = self.round()
            except MattingError as error:
                # A part is away; all that there is to do is still in the database.
                log.warning(f"{self._name}-failed", code=error.code, detail=error.detail)
            except Exception:
                log.exception(f"{self._name}-failed")
            if not self._stopping.is_set():
                self._woken.wait(wait_s)
