"""Makes the queue agree with the database: the database is the truth, Redis only the way there.

It finds what was accepted and not published, or published and lost, and sends it. What workers
held that are gone is shared.lease_recovery's. Every process that has one takes part in a duty that
one at a time holds, by a lease in the database. Should two hold it after all (one was stopped and
wakes up), no harm is done: every step is one transaction that takes the rows it changes, and a
message that comes twice does nothing.

A round looks at the open jobs page by page and ends after about a second, wherever it is: the next
one goes on behind the last job, so that each of ten thousand gets its turn, and the lease is
renewed in time however many there are.
"""

import threading
import time
import uuid

from shared import job_store
from shared.database import Database, Session
from shared.leadership import Leadership
from shared.periodic_task import PeriodicTask
from shared.queue import Celery, Message, all_queues, publish_many, queue_depth
from shared.settings import Settings
from shared.telemetry import RECONCILED, get_logger

log = get_logger(__name__)

LOST_AFTER_S = 10
"""With an empty queue, a message that nobody claimed for this long was lost: a worker claims what
it prefetched within seconds."""


LEADER_LEASE_S = 5.0
"""Another process takes over when nothing was heard of the holder for this long, and for as long as
it waits between two looks at lost messages.
"""

PAGE_JOBS = 100
"""Open jobs that one statement looks at."""
PAGE_MESSAGES = 2_000
"""A page ends early when it has so many to send."""
ROUND_S = 1.0


class Reconciler(PeriodicTask):
    """The steps, and the thread that repeats them."""

    def __init__(self, database: Database, queue: Celery, settings: Settings) -> None:
        super().__init__("reconcile")
        self._database = database
        self._queue = queue
        self._settings = settings
        self._leadership = Leadership(
            database, "reconcile", lease_s=LEADER_LEASE_S + settings.reconcile_s
        )
        self._after: uuid.UUID | None = None
        """The last job that was looked at; None: the next round begins with the first one."""
        self._publishing: set[uuid.UUID] = set()
        self._lock = threading.Lock()
        self._recover_at = 0.0

    def stop(self) -> None:
        """End after the step at hand, and let another process go on at once."""
        super().stop()
        self._leadership.release()

    def round(self) -> float:
        """What is due, if it is this process's turn; 0 when there are more jobs to look at."""
        until = time.monotonic() + ROUND_S
        while self._leadership.held() and not self._stopping.is_set():
            if time.monotonic() >= self._recover_at:
                self.recover()
                self._recover_at = time.monotonic() + self._settings.reconcile_s
            _, self._after = self.publish_page(self._after)
            if self._after is None:  # that was the last page
                break
            if time.monotonic() >= until:
                return 0.0
        return self._settings.publish_every_ms / 1e3

    def publish_open_jobs(self) -> int:
        """Fill up what each open job may have on the queue; returns how many messages were sent."""
        sent, after = self.publish_page(None)
        while after is not None:
            more, after = self.publish_page(after)
            sent += more
        return sent

    def publish_page(self, after: uuid.UUID | None) -> tuple[int, uuid.UUID | None]:
        """The same for a page of open jobs, behind the job `after`; returns also where the next
        page begins, and None after the last.

        No job gets more on at a time than keeps the workers busy, so a small one waits for little.
        """
        with self._database.transaction() as session:
            ahead = self._ahead(session)
            page = job_store.open_jobs(session, after=after, limit=PAGE_JOBS, ahead=ahead)
        sent = 0
        for job_id in page.publishable:
            if sent >= PAGE_MESSAGES:
                return sent, after
            sent += self.publish_job(job_id)
            after = job_id
        return sent, page.last

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
        """Forget lost messages, so that they are sent again; returns how many items moved."""
        patience_s: float = self._settings.queue_visibility_timeout_s
        if queue_depth(self._queue, all_queues(self._settings)) == 0:
            patience_s = LOST_AFTER_S
        with self._database.transaction() as session:
            forgotten = job_store.forget_publication(session, older_than_s=patience_s)
        if forgotten:
            RECONCILED.labels("message-lost").inc(forgotten)
            log.warning("reconciled", action="message-lost", items=forgotten)
        return forgotten
