"""The state of database, queue and storage, for probes and Prometheus. Each service is asked
separately, so a hanging one does not hide the others.
"""

import os
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

from api.background.latest import Latest
from shared import job_store
from shared.database import Database
from shared.errors import DatabaseError, MattingError, QueueError, StorageError
from shared.job_store import Backlog
from shared.queue import Celery, Lane, all_queues, queue_lanes, queue_name
from shared.settings import Settings
from shared.storage import Storage

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The Prometheus client's own variable: if set, `uvicorn --workers N` adds up its processes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The facts from the database."""

    backlog: list[Backlog]
    workers: list[dict[str, Any]]
    """The warm workers: `id`, and their own descriptions."""


class SystemFacts:
    """Belongs to one event loop. Asking uses no thread of the requests, even if a service hangs."""

    def __init__(
        self, database: Database, queue: Celery, storage: Storage, settings: Settings
    ) -> None:
        self._database = database
        self._queue = queue
        self._settings = settings
        self._backlogged: frozenset[str] = frozenset()
        self.stored = Latest(self._ask_database, DatabaseError)
        self.lanes = Latest(self._ask_queue, QueueError)
        self.storage = Latest(storage.ping, StorageError)
        self.counters = Latest(own_metrics, MattingError)

    def _ask_database(self) -> Stored:
        with self._database.transaction() as session:
            backlog = job_store.backlog(session)
            live = job_store.live_workers(session, stale_s=self._settings.worker_stale_s)
            workers = [{"id": worker.id, **worker.description} for worker in live]
        self._backlogged = frozenset(
            queue_name(one.model, by_url=by_url) for one in backlog for by_url in (False, True)
        )
        return Stored(backlog, workers)

    def _ask_queue(self) -> list[Lane]:
        return queue_lanes(self._queue, sorted({*all_queues(self._settings), *self._backlogged}))


def own_metrics() -> bytes:
    """The metrics of this process, or with `MULTIPROCESS` of all, in Prometheus text format."""
    own = REGISTRY
    if MULTIPROCESS in os.environ:
        own = CollectorRegistry()
        MultiProcessCollector(own)  # type: ignore[no-untyped-call]  # it has no types
    return generate_latest(own)
