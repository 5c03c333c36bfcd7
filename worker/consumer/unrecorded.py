"""Items that this worker claimed and could not record because the database was unavailable."""

import threading
import uuid
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from shared import job_store
from shared.database import Database
from shared.errors import DatabaseError
from shared.telemetry import get_logger

log = get_logger(__name__)


class UnrecordedItems:
    """Remembers such items and gives them back once the database answers again. Thread-safe."""

    def __init__(self, database: Database, worker_id: str) -> None:
        self._database = database
        self._worker_id = worker_id
        self._items: dict[uuid.UUID, tuple[uuid.UUID, bool]] = {}
        """By item id: the job's id, and whether the claim was confirmed."""
        self._lock = threading.Lock()
        self._giving_back = threading.Lock()
        """One thread at a time, or both would take back the death of the same item."""

    def add(self, ids: Iterable[tuple[uuid.UUID, uuid.UUID]], *, confirmed: bool) -> None:
        """Remember items, given with their jobs. `confirmed` is False if the answer to the claim
        was lost: the worker may hold the items or not.
        """
        with self._lock:
            self._items.update((item_id, (job_id, confirmed)) for item_id, job_id in ids)

    def give_back(self, held: Callable[[], Collection[uuid.UUID]]) -> None:
        """Put the items back into the queue, except those in `held`. Counts neither an attempt nor
        a death, because no process died. Raises DatabaseError.
        """
        with self._giving_back:
            self._give_back(held)

    def _give_back(self, held: Callable[[], Collection[uuid.UUID]]) -> None:
        with self._lock:
            items = dict(self._items)
        # Asked for now, not before: what was remembered may have been claimed again meanwhile.
        for item_id in items.keys() & set(held()):
            del items[item_id]
        if not items:
            return
        with self._database.transaction() as session:
            given = job_store.give_back(
                session,
                {item_id: job_id for item_id, (job_id, _) in items.items()},
                owner=self._worker_id,
            )
            confirmed = {item_id for item_id, (_, confirmed) in items.items() if confirmed}
            job_store.take_back_deaths(session, confirmed - given)
        log.warning("images-given-back", images=len(given))
        with self._lock:
            for item_id, known in items.items():
                if self._items.get(item_id) is known:  # else it came back meanwhile
                    del self._items[item_id]

    def still_alive(self, item_ids: Collection[uuid.UUID]) -> None:
        """Correct the death count of items whose lease expired although this worker is alive: it
        was stopped or cut off for longer than the lease.
        """
        if item_ids:
            with suppress(DatabaseError), self._database.transaction() as session:
                job_store.take_back_deaths(session, item_ids)
