"""Images that an outage of the database cut loose from their worker: it has ended with them, or
does not know that it holds them, and could not say so.
"""

import threading
import uuid
from collections.abc import Collection, Iterable

from shared import job_store
from shared.database import Database
from shared.telemetry import get_logger

log = get_logger(__name__)


class AdriftImages:
    """Given back when the database answers again. Thread-safe."""

    def __init__(self, database: Database, worker_id: str) -> None:
        self._database = database
        self._worker_id = worker_id
        self._items: dict[uuid.UUID, tuple[uuid.UUID, bool]] = {}
        """By item: its job, and whether this worker surely claimed it."""
        self._lock = threading.Lock()

    def add(self, ids: Iterable[tuple[uuid.UUID, uuid.UUID]], *, claimed: bool) -> None:
        """Items with their jobs. Not `claimed`: the answer to the claim did not arrive, so perhaps
        they are this worker's.
        """
        with self._lock:
            self._items.update((item_id, (job_id, claimed)) for item_id, job_id in ids)

    def give_back(self, held: Collection[uuid.UUID]) -> None:
        """Let others do them, or this worker once more; not what it holds. Nobody died of these
        images, so neither a try nor a death is counted. Raises DatabaseError.
        """
        with self._lock:
            items = {item_id: job for item_id, job in self._items.items() if item_id not in held}
        if not items:
            return
        with self._database.transaction() as session:
            given = job_store.give_back(
                session,
                {item_id: job_id for item_id, (job_id, _) in items.items()},
                owner=self._worker_id,
            )
            claimed = {item_id for item_id, (_, claimed) in items.items() if claimed}
            job_store.take_back_deaths(session, claimed - given)
        log.warning("images-given-back", images=len(given))
        with self._lock:
            for item_id in items:
                self._items.pop(item_id, None)
