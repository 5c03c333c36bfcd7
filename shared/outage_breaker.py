"""Turns callers away while a part does not answer, so that they don't all wait for its timeout."""

import threading
import time


class OutageBreaker:
    """Closed while the part answers. Once it failed, one caller each `probe_s` finds out whether it
    answers again, and all others are turned away at once. Thread-safe.
    """

    def __init__(self, probe_s: float) -> None:
        self._probe_s = probe_s
        self._probe_at: float | None = None
        """None: closed."""
        self._lock = threading.Lock()

    def lets_through(self) -> bool:
        """Whether this caller may ask the part; who may, tells `record` what came of it."""
        with self._lock:
            if self._probe_at is None:
                return True
            if time.monotonic() < self._probe_at:
                return False
            self._probe_at = time.monotonic() + self._probe_s
            return True

    def record(self, *, answered: bool) -> None:
        """How it went."""
        with self._lock:
            self._probe_at = None if answered else time.monotonic() + self._probe_s
