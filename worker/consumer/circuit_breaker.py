"""Holds batches back while a part that every image needs is away: an outage must not use up the
images' tries.
"""

import threading
import time
from collections.abc import Callable

from shared.errors import MattingError
from shared.telemetry import get_logger

log = get_logger(__name__)

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 5.0


class CircuitBreaker:
    """Pressed by a batch that met the outage; lets the next ones go when the part answers again.
    Thread-safe.
    """

    def __init__(self, answers: Callable[[], None]) -> None:
        """`answers` raises MattingError while the part is away."""
        self._answers = answers
        self._open = False
        self._stopped = threading.Event()
        self._asking = threading.Lock()

    def trip(self) -> None:
        """The part did not answer."""
        self._open = True

    def stop(self) -> None:
        """Hold nothing back any more: the worker stops."""
        self._stopped.set()

    def wait_until_closed(self) -> None:
        """Return at once, or as soon as the part answers. One thread asks, the others wait."""
        if not self._open:
            return
        with self._asking:
            began, wait_s = time.monotonic(), FIRST_WAIT_S
            while self._open and not self._stopped.is_set():
                try:
                    self._answers()
                except MattingError as error:
                    log.warning("batches-held", code=error.code, detail=error.detail)
                    self._stopped.wait(wait_s)
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                else:
                    self._open = False
                    log.warning("batches-go-on", held_s=round(time.monotonic() - began, 1))
