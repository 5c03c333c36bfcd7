"""Takes back what workers held that are gone, on a clock of its own: neither a long round of
publishing nor a queue that is away keeps an image waiting whose lease has ended.
"""

import time

from shared import job_store
from shared.database import Database
from shared.leadership import Leadership
from shared.periodic_task import PeriodicTask
from shared.settings import Settings
from shared.telemetry import RECONCILED, get_logger

log = get_logger(__name__)

LEADER_LEASE_S = 6.0

ROUND_S = 1.0
"""A round ends after this long; what is left is the next one's, which follows at once."""


class LeaseRecovery(PeriodicTask):
    """A round takes the expired leases back, the oldest first, some hundred in a transaction."""

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__("lease-recovery")
        self._database = database
        self._settings = settings
        self._leadership = Leadership(database, "lease-recovery", lease_s=LEADER_LEASE_S)

    def stop(self) -> None:
        """End after the step at hand, and let another process go on at once."""
        super().stop()
        self._leadership.release()

    def round(self) -> float:
        """What has expired, if it is this process's turn."""
        until = time.monotonic() + ROUND_S
        while self._leadership.held() and self.recover():
            if time.monotonic() >= until or self._stopping.is_set():
                return 0.0
        return self._settings.reconcile_s

    def recover(self) -> int:
        """One transaction; returns how many items came back."""
        with self._database.transaction() as session:
            released = job_store.release_expired_leases(
                session, max_attempts=self._settings.max_attempts
            )
        if released:
            RECONCILED.labels("lease-expired").inc(released)
            log.warning("reconciled", action="lease-expired", items=released)
        return released
