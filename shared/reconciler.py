"""Makes the queue agree with the database: the database is the truth, Redis only the way there.

It finds what was accepted and not published, published and lost, or claimed by a worker that is
gone, and sends it again. Every process that has one takes part in a duty that one at a time holds,
by a lease in the database. Should two hold it after all (one was stopped and wakes up), no harm is
done: every step is one transaction that takes the rows it changes, and a message that comes twice
does nothing.
"""

import threading
import time
import uuid
from contextlib import suppress

from shared import job_store
from shared.database import Database, Session
from shared.errors import MattingError
from shared.periodic_task import PeriodicTask
from shared.queue import Celery, Message, all_queues, publish_many, queue_depth
from shared.settings import Settings
from shared.telemetry import RECONCILED, get_logger

log = get_logger(__name__)

LOST_AFTER_S = 10
"""With an empty queue, a message that nobody claimed for this long was lost: a worker claims what
it prefetched within seconds."""


LEASE_NAME = "reconcile"
LEADER_LEASE_S = 5.0
"""Another process takes over when nothing was heard of the holder for this long."""


class Reconciler(PeriodicTask):
    """The steps, and the thread that repeats them."""

    def __init__(self, database: Database, queue: Celery, settings: Settings) -> None:
        super().__init__("reconcile")
        self._database = database
        self._queue = queue
        self._settings = settings
        self._owner = uuid.uuid4().hex
        self._renew_at = 0.0
        self._publishing: set[uuid.UUID] = set()
        self._lock = threading.Lock()
        self._recover_at = 0.0

    def stop(self) -> None:
        """End after the step at hand, and let another process go on at once."""
        super().stop()
        with suppress(MattingError), self._database.transaction() as session:
            job_store.release_leader_lease(session, LEASE_NAME, owner=self._owner)

    def round(self) -> float:
        """What is due, if it is this process's turn."""
        if self.is_leader():
            if time.monotonic() >= self._recover_at:
                self.recover()
                self._recover_at = time.monotonic() + self._settings.reconcile_s
            self.publish_open_jobs()
        return self._settings.publish_every_ms / 1e3

    def publish_open_jobs(self) -> int:
        """Fill up what each open job may have on the queue; returns how many messages were sent.

        No job gets more on at a time than keeps the workers busy, so a small one waits for little.
        """
        with self._database.transaction() as session:
            jobs = job_store.open_jobs(session)
        return sum(self.publish_job(job_id) for job_id in jobs)

    def publish_job(self, job_id: uuid.UUID) -> int:
        """The same for one job. Sent first and noted after: what a crash leaves is sent twice."""
        with self._lock:
            if job_id in self._publishing:  # a new job is seen by the request and by the thread
                return 0
            self._publishing.add(job_id)
        try:
            return self._publish_job(job_id)
        finally:
            with self._lock:
                self._publishing.remove(job_id)

    def _publish_job(self, job_id: uuid.UUID) -> int:
        with self._database.transaction() as session:
            due = job_store.publishable(session, job_id, ahead=self._ahead(session))
        if due:
            publish_many(
                self._queue,
                (
                    Message(
                        item_id=item.item_id,
                        job_id=item.job_id,
                        name=item.name,
                        priority=item.priority,
                        express=item.express,
                        model=item.model,
                        by_url=item.by_url,
                    )
                    for item in due
                ),
            )
            with self._database.transaction() as session:
                job_store.mark_published_many(session, due)
        return len(due)

    def _ahead(self, session: Session) -> int:
        """`publish_ahead`, or with many workers what they hold and once more what they take next:
        a job alone must be able to keep all of them busy (tests/benchmarks/capacity).
        """
        held = job_store.images_held(session, stale_s=self._settings.worker_stale_s)
        return max(self._settings.publish_ahead, 2 * held)

    def recover(self) -> int:
        """Take back expired leases and forget lost messages; returns how many items moved."""
        patience_s: float = self._settings.queue_visibility_timeout_s
        if queue_depth(self._queue, all_queues(self._settings)) == 0:
            patience_s = LOST_AFTER_S
        with self._database.transaction() as session:
            released = job_store.release_expired_leases(
                session, max_attempts=self._settings.max_attempts
            )
        with self._database.transaction() as session:
            forgotten = job_store.forget_publication(session, older_than_s=patience_s)
        for action, count in (("lease-expired", released), ("message-lost", forgotten)):
            if count:
                RECONCILED.labels(action).inc(count)
                log.warning("reconciled", action=action, items=count)
        return released + forgotten

    def is_leader(self) -> bool:
        """Take the duty, or keep it; False while another process has it."""
        asked_at = time.monotonic()
        if asked_at < self._renew_at:
            return True
        lease_s = LEADER_LEASE_S + self._settings.reconcile_s
        with self._database.transaction() as session:
            held = job_store.acquire_leader_lease(
                session, LEASE_NAME, owner=self._owner, lease_s=lease_s
            )
        self._renew_at = asked_at + lease_s / 3 if held else 0.0
        return held
