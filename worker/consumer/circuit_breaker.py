"""A circuit breaker: it stops batches while a service that every image needs is unavailable, so
that an outage does not use up the images' attempts.
"""

import threading
import time
from collections.abc import Callable

from shared.errors import MattingError
from shared.telemetry import get_logger

log = get_logger(__name__)

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 5.0
GIVE_UP_S = 10.0
"""A device that has not answered for this long is given up, where the process can do without."""


class CircuitBreaker:
    """A batch that meets the outage trips the breaker; batches wait until the service answers
    again. Thread-safe.
    """

    def __init__(
        self, answers: Callable[[], None], give_up: Callable[[MattingError], None] | None = None
    ) -> None:
        """`answers` raises MattingError while the service is unavailable. `give_up`: called with
        the last error when it was asked twice and did not answer for GIVE_UP_S; None: wait however
        long it takes.
        """
        self._answers = answers
        self._give_up = give_up
        self._open = False
        self._stopped = threading.Event()
        self._asking = threading.Lock()

    def trip(self) -> None:
        """Open the breaker: the service did not answer."""
        self._open = True

    def stop(self) -> None:
        """Let all waiting batches go, because the worker stops."""
        self._stopped.set()

    def wait_until_closed(self) -> bool:
        """Return at once if the breaker is closed, else when the service answers again. One thread
        polls the service, the others wait. False: the worker stops before it answers.
        """
        if not self._open:
            return True
        with self._asking:
            began, wait_s, failed = time.monotonic(), FIRST_WAIT_S, 0
            while self._open and not self._stopped.is_set():
                try:
                    self._answers()
                except MattingError as error:
                    log.warning("batches-paused", code=error.code, detail=error.detail)
                    failed += 1
                    lasts = failed > 1 and time.monotonic() - began > GIVE_UP_S
                    if self._give_up is not None and lasts:
                        self._give_up(error)
                    self._stopped.wait(wait_s)
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                else:
                    self._open = False
                    log.warning("batches-resumed", held_s=round(time.monotonic() - began, 1))
        return not self._open
