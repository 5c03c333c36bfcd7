"""What the other workers serve, by their own reports in the database."""

import threading
import time

from shared import job_store
from shared.database import Database
from shared.errors import DatabaseError
from shared.settings import Settings


class OtherWorkers:
    """Asks the database at most once per heartbeat. Thread-safe."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._stale_s = settings.worker_stale_s
        self._every_s = settings.heartbeat_s
        self._served: frozenset[str] = frozenset()
        self._asked = float("-inf")
        self._lock = threading.Lock()

    def serve(self, model: str) -> bool:
        """Whether a warm worker serves the model. False while the database does not answer."""
        with self._lock:
            if time.monotonic() - self._asked >= self._every_s:
                self._served = self._ask()
                self._asked = time.monotonic()
            return model in self._served

    def _ask(self) -> frozenset[str]:
        try:
            with self._database.transaction() as session:
                live = job_store.live_workers(session, stale_s=self._stale_s)
                return frozenset(name for one in live for name in one.description.get("models", []))
        except DatabaseError:
            return frozenset()
