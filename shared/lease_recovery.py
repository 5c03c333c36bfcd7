"""Takes back items of dead workers, in a thread of its own: neither a long publishing round nor an
unavailable queue delays it.

A lease that ended while the database was unavailable says nothing about its worker, which could not
renew it. So after an outage, and at the start, workers have the time of one lease to come back.
"""

import math
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
"""A round ends after this time; the next one follows at once and continues."""


class LeaseRecovery(PeriodicTask):
    """Each round takes back expired leases, oldest first, some hundred per transaction."""

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__("lease-recovery")
        self._database = database
        self._settings = settings
        self._leadership = Leadership(database, "lease-recovery", lease_s=LEADER_LEASE_S)
        self._heard_at = -math.inf
        """When the database last answered, by this process's clock."""
        self._connected_since = 0.0

    def stop(self) -> None:
        """Stop after the current step, and let another process take over at once."""
        super().stop()
        self._leadership.release()

    def round(self) -> float:
        """Take back what has expired, if this process is the leader."""
        until = time.monotonic() + ROUND_S
        while self._in_charge() and self.recover():
            if time.monotonic() >= until or self._stopping.is_set():
                return 0.0
        return self._settings.reconcile_s

    def _in_charge(self) -> bool:
        """Whether this process is the leader and the workers had time to renew their leases."""
        leader = self._leadership.held()
        now = time.monotonic()
        if now - self._heard_at > self._settings.lease_s / 2:
            self._connected_since = now
        self._heard_at = now
        return leader and now - self._connected_since >= self._settings.lease_s

    def recover(self) -> int:
        """Take back one transaction's worth; returns the number of items."""
        with self._database.transaction() as session:
            released = job_store.release_expired_leases(
                session, max_attempts=self._settings.max_attempts
            )
        if released:
            RECONCILED.labels("lease-expired").inc(released)
            log.warning("reconciled", action="lease-expired", items=released)
        return released
