"""Leader election: a lease in the database decides which process does the work of one."""

import time
import uuid
from contextlib import suppress

from shared import job_store
from shared.database import Database
from shared.errors import MattingError


class Leadership:
    """One process's part in the election for a lease. Call `held` before every step: it renews
    the lease after a third of its time, so steps shorter than two thirds never let it expire.
    """

    def __init__(self, database: Database, name: str, *, lease_s: float) -> None:
        """Another process takes over if the lease was not renewed for `lease_s`."""
        self._database = database
        self._name = name
        self._lease_s = lease_s
        self._owner = uuid.uuid4().hex
        self._renew_at = 0.0

    def held(self) -> bool:
        """Acquire or renew the lease; False while another process holds it. Raises
        DatabaseError.
        """
        asked_at = time.monotonic()
        if asked_at < self._renew_at:
            return True
        with self._database.transaction() as session:
            held = job_store.acquire_leader_lease(
                session, self._name, owner=self._owner, lease_s=self._lease_s
            )
        self._renew_at = asked_at + self._lease_s / 3 if held else 0.0
        return held

    def release(self) -> None:
        """Release the lease at once. If the database is unavailable, the lease expires
        by itself.
        """
        self._renew_at = 0.0
        with suppress(MattingError), self._database.transaction() as session:
            job_store.release_leader_lease(session, self._name, owner=self._owner)
