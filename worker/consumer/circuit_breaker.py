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


class Brake:
    """Pressed by a batch that met the outage; lets the next ones go when the part answers again.
    Thread-safe.
    """

    def __init__(self, answers: Callable[[], None]) -> None:
        """`answers` raises MattingError while the part is away."""
        self._answers = answers
        self._pressed = False
        self._released = threading.Event()
        self._asking = threading.Lock()

    def press(self) -> None:
        """The part did not answer."""
        self._pressed = True

    def release(self) -> None:
        """Hold nothing back any more: the worker stops."""
        self._released.set()

    def hold(self) -> None:
        """Return at once, or as soon as the part answers. One thread asks, the others wait."""
        if not self._pressed:
            return
        with self._asking:
            began, wait_s = time.monotonic(), FIRST_WAIT_S
            while self._pressed and not self._released.is_set():
                try:
                    self._answers()
                except MattingError as error:
                    log.warning("batches-held", code=error.code, detail=error.detail)
                    self._released.wait(wait_s)
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                else:
                    self._pressed = False
                    log.warning("batches-go-on", held_s=round(time.monotonic() - began, 1))
