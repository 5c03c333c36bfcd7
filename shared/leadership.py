"""Which process does what one at a time does for all: a lease in the database, renewed in time."""

import time
import uuid
from contextlib import suppress

from shared import job_store
from shared.database import Database
from shared.errors import MattingError


class Leadership:
    """One process's part in a leader lease. Ask `held` before every step: it renews the lease when
    a third of it is over, so steps of less than two thirds never let it lapse.
    """

    def __init__(self, database: Database, name: str, *, lease_s: float) -> None:
        """Another process takes over when nothing was heard of the holder for `lease_s`."""
        self._database = database
        self._name = name
        self._lease_s = lease_s
        self._owner = uuid.uuid4().hex
        self._renew_at = 0.0

    def held(self) -> bool:
        """Take the lease, or keep it; False while another process has it. Raises DatabaseError."""
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
        """Let another process have it now. Without a database it runs out by itself."""
        self._renew_at = 0.0
        with suppress(MattingError), self._database.transaction() as session:
            job_store.release_leader_lease(session, self._name, owner=self._owner)
