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
from shared.errors import MattingError, QueueError
from shared.held_messages import find_lost
from shared.outage_breaker import OutageBreaker
from shared.periodic_task import PeriodicTask
from shared.queue import Celery, Message, publish_many, queue_name
from shared.settings import Settings
from shared.shares import MAX_OUT, Share, shares
from shared.telemetry import RECONCILED, get_logger

log = get_logger(__name__)

LOST_AFTER_S = 10
"""A message that Redis has not, and that nobody claimed for this long, was lost: a worker claims
what it takes within seconds."""

FORGET_ROWS = 1_000
"""Of one transaction."""

PROBE_S = 5.0
"""While Redis does not answer, one request each so often finds out whether it does again."""

LOOK_SHARE = 20
"""Looking for lost messages reads the whole queue, so it takes at most this part of the time."""


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
        self._breaker = OutageBreaker(PROBE_S)
        self._lock = threading.Lock()
        self._recover_at = 0.0
        self._look_at = 0.0

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
            given = self._shares(session)
        return sum(self._publish_share(share) for share in given)

    def publish_job(self, job_id: uuid.UUID) -> int:
        """The same for one job."""
        with self._database.transaction() as session:
            given = self._shares(session)
        return sum(self._publish_share(share) for share in given if share.job_id == job_id)

    def publish_now(self, job_id: uuid.UUID) -> int:
        """The same for a request, which does not wait for a Redis that has just failed. Raises
        MattingError.
        """
        if not self._breaker.lets_through():
            raise QueueError("Redis did not answer a moment ago")
        try:
            sent = self.publish_job(job_id)
        except QueueError:
            self._breaker.record(answered=False)
            raise
        self._breaker.record(answered=True)
        return sent

    def _shares(self, session: Session) -> list[Share]:
        return shares(
            job_store.open_jobs(session),
            ahead=self._settings.publish_ahead,
            held=job_store.images_held(session, stale_s=self._settings.worker_stale_s),
        )

    def _publish_share(self, share: Share) -> int:
        """Sent first and noted after: what a crash leaves is sent twice."""
        with self._lock:
            if share.job_id in self._publishing:  # seen by a request and by the thread at once
                return 0
            self._publishing.add(share.job_id)
        try:
            return self._publish(share)
        finally:
            with self._lock:
                self._publishing.remove(share.job_id)

    def _publish(self, share: Share) -> int:
        with self._database.transaction() as session:
            due = job_store.publishable(
                session, share.job_id, ahead=share.ahead, express=share.express
            )
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

    def recover(self) -> int:
        """Take back expired leases and forget lost messages; returns how many items moved."""
        released = self.release_expired_leases()
        if time.monotonic() < self._look_at:
            return released
        began = time.monotonic()
        try:
            return released + self.forget_lost()
        finally:
            self._look_at = time.monotonic() + LOOK_SHARE * (time.monotonic() - began)

    def release_expired_leases(self) -> int:
        """Take back what workers held that are gone; returns how many items."""
        with self._database.transaction() as session:
            released = job_store.release_expired_leases(
                session, max_attempts=self._settings.max_attempts
            )
        return _told("lease-expired", released)

    def forget_lost(self) -> int:
        """Let what Redis lost be sent again; returns how many items. Raises QueueError."""
        with self._database.transaction() as session:
            sent = job_store.unclaimed(session, older_than_s=LOST_AFTER_S, limit=2 * MAX_OUT)
        if not sent:
            return 0
        queues = sorted({queue_name(one.model, by_url=one.by_url) for one in sent})
        ids = [one.item_id for one in sent]
        lost = find_lost(self._queue, queues, ids, claimed_within_s=LOST_AFTER_S)
        forgotten = 0
        gone = [one for one in sent if one.item_id in lost]
        for start in range(0, len(gone), FORGET_ROWS):
            with self._database.transaction() as session:
                forgotten += job_store.forget_publications(
                    session, gone[start : start + FORGET_ROWS]
                )
        return _told("message-lost", forgotten)

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


def _told(action: str, items: int) -> int:
    if items:
        RECONCILED.labels(action).inc(items)
        log.warning("reconciled", action=action, items=items)
    return items
