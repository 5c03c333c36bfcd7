"""Makes the queue agree with the database: the database is the truth, Redis only the way there.

It finds what was accepted and not published, or published and lost, and sends it. What workers
held that are gone is shared.lease_recovery's. Every process that has one takes part in a duty that
one at a time holds, by a lease in the database. Should two hold it after all (one was stopped and
wakes up), no harm is done: every step is one transaction that takes the rows it changes, and a
message that comes twice does nothing.

A round looks at the open jobs page by page and ends after about a second, wherever it is. The next
one goes on behind the last job, so each of ten thousand jobs gets its turn, and the lease is
renewed in time however many there are.
"""

import bisect
import threading
import time
import uuid
from collections.abc import Iterator, Sequence

from shared import job_store
from shared.database import Database, Session
from shared.errors import QueueError
from shared.held_messages import find_lost
from shared.leadership import Leadership
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


PAGE_JOBS = 100
"""Open jobs that one statement looks at."""
JOBS_AT_ONCE, MESSAGES_AT_ONCE = 20, 500
"""So many are sent together: two transactions and one pipeline to Redis. One job's may be more."""
PAGE_MESSAGES = 2_000
"""A page ends early when it has sent so many."""
ROUND_S = 1.0

LEADER_LEASE_S = 5.0
"""Another process takes over when nothing was heard of the holder for this long, and for as long as
it waits between two looks at lost messages.
"""


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
        """The last job that had its turn; None: the next round begins with the first one."""
        self._publishing: set[uuid.UUID] = set()
        self._breaker = OutageBreaker(PROBE_S)
        self._lock = threading.Lock()
        self._recover_at = 0.0

    def stop(self) -> None:
        """End after the step at hand, and let another process go on at once."""
        super().stop()
        self._leadership.release()

    def round(self) -> float:
        """What is due, if it is this process's turn; 0 when there are more jobs to look at."""
        if not self._leadership.held():
            return self._settings.publish_every_ms / 1e3
        if time.monotonic() >= self._recover_at:
            self.recover()
        with self._database.transaction() as session:
            given = self._shares(session)
        until = time.monotonic() + ROUND_S
        while self._leadership.held() and not self._stopping.is_set():
            _, self._after = self.publish_page(given, self._after)
            if self._after is None:  # that was the last page
                break
            if time.monotonic() >= until:
                return 0.0
        return self._settings.publish_every_ms / 1e3

    def publish_open_jobs(self) -> int:
        """Fill up what each open job may have on the queue; returns how many messages were sent."""
        with self._database.transaction() as session:
            given = self._shares(session)
        sent, after = self.publish_page(given, None)
        while after is not None:
            more, after = self.publish_page(given, after)
            sent += more
        return sent

    def publish_page(
        self, given: Sequence[Share], after: uuid.UUID | None
    ) -> tuple[int, uuid.UUID | None]:
        """The same for the next of the jobs (in the order of their ids) behind the job `after`;
        returns also where the page after this one begins, and None when there is none.

        No job gets more on at a time than keeps the workers busy, so a small one waits for little.
        """
        start = bisect.bisect_right(given, after, key=_job_id) if after else 0
        page = given[start : start + PAGE_JOBS]
        with self._database.transaction() as session:
            ahead = {share.job_id: share.ahead for share in page}
            due = set(job_store.jobs_to_publish(session, ahead))
        waiting = [share for share in page if share.job_id in due]
        sent = 0
        for some in _together(waiting):
            sent += self._publish_shares(some)
            if sent >= PAGE_MESSAGES and some[-1] is not waiting[-1]:
                return sent, some[-1].job_id
        return sent, page[-1].job_id if start + PAGE_JOBS < len(given) else None

    def publish_job(self, job_id: uuid.UUID) -> int:
        """The same for one job."""
        with self._database.transaction() as session:
            given = self._shares(session)
        return self._publish_shares([share for share in given if share.job_id == job_id])

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

    def _publish_shares(self, given: Sequence[Share]) -> int:
        """Sent first and noted after: what a crash leaves is sent twice."""
        with self._lock:  # a new job is seen by its request and by the thread at once
            mine = [share for share in given if share.job_id not in self._publishing]
            self._publishing.update(share.job_id for share in mine)
        try:
            return self._publish(mine)
        finally:
            with self._lock:
                self._publishing.difference_update(share.job_id for share in mine)

    def _publish(self, given: Sequence[Share]) -> int:
        with self._database.transaction() as session:
            due = [
                item
                for share in given
                for item in job_store.publishable(
                    session, share.job_id, ahead=share.ahead, express=share.express
                )
            ]
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
        """Forget lost messages, so that they are sent again; returns how many items."""
        began = time.monotonic()
        try:
            return self.forget_lost()
        finally:
            ended = time.monotonic()
            pause_s = max(self._settings.reconcile_s, LOOK_SHARE * (ended - began))
            self._recover_at = ended + pause_s

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
        if forgotten:
            RECONCILED.labels("message-lost").inc(forgotten)
            log.warning("reconciled", action="message-lost", items=forgotten)
        return forgotten


def _together(given: Sequence[Share]) -> Iterator[list[Share]]:
    """Groups of neighbours, for which few transactions do."""
    group: list[Share] = []
    messages = 0
    for share in given:
        if group and (len(group) == JOBS_AT_ONCE or messages + share.ahead > MESSAGES_AT_ONCE):
            yield group
            group, messages = [], 0
        group.append(share)
        messages += share.ahead
    if group:
        yield group


def _job_id(share: Share) -> uuid.UUID:
    return share.job_id
