"""Refuses calls to a service that is unavailable, so that callers do not all wait for
its timeout.
"""

import threading
import time


class OutageBreaker:
    """A circuit breaker for requests. Closed while the service answers. After a failure one caller
    per `probe_s` tries the service; all others are refused at once. Thread-safe.
    """

    def __init__(self, probe_s: float) -> None:
        self._probe_s = probe_s
        self._probe_at: float | None = None
        """None: closed."""
        self._lock = threading.Lock()

    def lets_through(self) -> bool:
        """Whether this caller may call the service; it must report the result with `record`."""
        with self._lock:
            if self._probe_at is None:
                return True
            if time.monotonic() < self._probe_at:
                return False
            self._probe_at = time.monotonic() + self._probe_s
            return True

    def record(self, *, answered: bool) -> None:
        """Report whether the call succeeded."""
        with self._lock:
            self._probe_at = None if answered else time.monotonic() + self._probe_s
