"""Reports every few seconds that the worker is alive, and renews the leases of its
items in flight.
"""

import threading
from typing import Any

from shared import job_store
from shared.database import Database
from shared.errors import DatabaseError
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.consumer.batch_runner import BatchRunner

log = get_logger(__name__)


class Heartbeat:
    """The heartbeat thread. Call `start` once the predictor is warm, and `stop` after the last
    batch is recorded.
    """

    def __init__(
        self, database: Database, runner: BatchRunner, settings: Settings, worker_id: str
    ) -> None:
        self._database = database
        self._runner = runner
        self._settings = settings
        self._worker_id = worker_id
        self._state = "warm"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self, description: dict[str, Any]) -> None:
        """Register the worker and start the thread. Raises DatabaseError."""
        with self._database.transaction() as session:
            job_store.register_worker(session, self._worker_id, description)
        self._thread.start()

    def renew_only(self) -> None:
        """Report the worker as stopping from now on: alive, but not ready."""
        self._state = "stopping"
        self._beat()

    def stop(self) -> None:
        """Stop the thread and remove the worker from the database."""
        self._stopping.set()
        self._thread.join(timeout=10)
        try:
            self._runner.give_back()
            with self._database.transaction() as session:
                job_store.forget_worker(session, self._worker_id)
        except DatabaseError as error:
            log.warning("worker-not-unregistered", detail=error.detail)

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.heartbeat_s):
            self._beat()

    def _beat(self) -> None:
        try:
            with self._database.transaction() as session:
                job_store.beat(session, self._worker_id, state=self._state)
                job_store.renew_leases(
                    session,
                    self._runner.held,
                    owner=self._worker_id,
                    lease_s=self._settings.lease_s,
                )
            self._runner.give_back()
        except DatabaseError as error:
            # The leases remain valid for a while. If the database stays unavailable they expire,
            # and other workers process the images.
            log.warning("heartbeat-missed", detail=error.detail)
        except Exception:  # a thread that ended would let the leases of a living worker expire
            log.exception("heartbeat-missed")
