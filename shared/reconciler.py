"""The reconciler: it makes the queue agree with the database, where job state lives. Redis may be
lost.

It publishes items that were accepted but not published, or published but lost.
shared.lease_recovery takes back items of dead workers. One process at a time is the leader, by a
lease in the database. Two leaders (after a stopped one wakes up) do no harm: each step is one
transaction that locks the rows it changes, and a duplicate message does nothing.

A round reads the open jobs in pages and ends after about a second. The next round continues after
the last job, so each of ten thousand jobs gets its turn, and the lease is renewed in time.
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
from shared.queue import Celery, publish_many, queue_name
from shared.settings import Settings
from shared.shares import MAX_OUT, NewcomerShares, Share, shares
from shared.telemetry import RECONCILED, get_logger

log = get_logger(__name__)

LOST_AFTER_S = 10
"""A message that is not in Redis and that no worker claimed for this long is lost. A worker claims
a message within seconds after it received it.
"""

FORGET_ROWS = 1_000
"""Sent messages that one transaction reads or changes."""

UNSERVED_S = 300.0
"""A worker that is restarted serves its models again within this time: a large one takes minutes to
load.
"""

PROBE_S = 5.0
"""While Redis does not answer, one request per this time checks whether it answers again."""

LOOK_SHARE = 20
"""Searching for lost messages reads the whole queue, so it may use at most 1/20 of the time."""

VIEW_S = 1.0
"""How long submissions use what was read of the other open jobs."""

PAGE_JOBS = 100
"""Open jobs per statement."""
JOBS_AT_ONCE, MESSAGES_AT_ONCE = 20, 500
"""Jobs and messages sent together, with two transactions and one pipeline to Redis. A single job
may have more messages."""
PAGE_MESSAGES = 2_000
"""A page ends early when it has sent this many messages."""
ROUND_S = 1.0

LEADER_LEASE_S = 5.0
"""Another process takes over if the lease was not renewed for this long plus the wait between two
searches for lost messages.
"""


class Reconciler(PeriodicTask):
    """The steps of reconciling, and the thread that repeats them."""

    def __init__(self, database: Database, queue: Celery, settings: Settings) -> None:
        super().__init__("reconcile")
        self._database = database
        self._queue = queue
        self._settings = settings
        self._leadership = Leadership(
            database, "reconcile", lease_s=LEADER_LEASE_S + settings.reconcile_s
        )
        self._after: uuid.UUID | None = None
        """The last job that had its turn; None: the next round begins with the first job."""
        self._publishing: set[uuid.UUID] = set()
        self._breaker = OutageBreaker(PROBE_S)
        self._lock = threading.Lock()
        self._recover_at = 0.0
        self._unserved: dict[str, float] = {}
        """Second models that images wait for, and since when no worker serves them."""
        self._newcomers = NewcomerShares(
            [], ahead=settings.publish_ahead, held=0, url_places=settings.url_threads
        )
        self._view_until = 0.0

    def stop(self) -> None:
        """Stop after the current step, and let another process take over at once."""
        super().stop()
        self._leadership.release()

    def round(self) -> float:
        """Do what is due if this process is the leader; returns 0 if there are more
        jobs to check.
        """
        if not self._leadership.held():
            self._unserved = {}  # what the next leader sees is not known here
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
        """Publish as many messages as each open job may have on the queue; returns how many were
        sent.
        """
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
        """The same for the next page of jobs (by id) after the job `after`; also returns where the
        next page begins, or None.

        No job gets more on the queue than keeps the workers busy, so small jobs wait only briefly.
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
        """The same for one job that nobody has published. The other open jobs are read once in
        `VIEW_S`, not for each submission.
        """
        with self._database.transaction() as session:
            own = job_store.open_jobs(session, only=job_id)
            if time.monotonic() >= self._view_until:
                capacity = self._capacity(session)
                self._newcomers = NewcomerShares(
                    job_store.open_jobs(session, but_for=job_id),
                    ahead=self._settings.publish_ahead,
                    held=capacity.images,
                    url_places=capacity.url_places,
                    served=capacity.models,
                )
                self._view_until = time.monotonic() + VIEW_S
        return self._publish_shares([self._newcomers.share(job) for job in own if job.queued])

    def publish_now(self, job_id: uuid.UUID) -> int:
        """The same within a request, which does not wait for a Redis that has just failed. Raises
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
        capacity = self._capacity(session)
        return shares(
            job_store.open_jobs(session),
            ahead=self._settings.publish_ahead,
            held=capacity.images,
            url_places=capacity.url_places,
            served=capacity.models,
        )

    def _capacity(self, session: Session) -> job_store.Capacity:
        return job_store.capacity(
            session,
            stale_s=self._settings.worker_stale_s,
            url_places=self._settings.url_threads,
        )

    def _publish_shares(self, given: Sequence[Share]) -> int:
        """Send first, record afterwards: after a crash between the two, messages are sent twice."""
        with self._lock:  # a request and the thread may see the same job
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
                    session,
                    share.job_id,
                    ahead=share.ahead,
                    express=share.express,
                    urls=share.urls,
                )
            ]
        if due:
            publish_many(self._queue, due)
            with self._database.transaction() as session:
                job_store.mark_published_many(session, due)
        return len(due)

    def recover(self) -> int:
        """Let messages be sent again that were lost, or that no worker will take; returns the
        number of items.
        """
        began = time.monotonic()
        try:
            return self.forget_lost() + self.recall_forwarded()
        finally:
            ended = time.monotonic()
            pause_s = max(self._settings.reconcile_s, LOOK_SHARE * (ended - began))
            self._recover_at = ended + pause_s

    def _unclaimed(self) -> list[job_store.Sent]:
        """All sent messages that may be lost, read in pages: each query takes a few milliseconds
        however many there are.
        """
        sent: list[job_store.Sent] = []
        while len(sent) < 2 * MAX_OUT:
            with self._database.transaction() as session:
                page = job_store.unclaimed(
                    session,
                    older_than_s=LOST_AFTER_S,
                    limit=FORGET_ROWS,
                    after=sent[-1] if sent else None,
                )
            sent += page
            if len(page) < FORGET_ROWS:
                break
        return sent

    def forget_lost(self) -> int:
        """Let items whose messages Redis lost be published again; returns how many. Raises
        QueueError.
        """
        sent = self._unclaimed()
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

    def recall_forwarded(self) -> int:
        """Let images return to their first model whose second model nobody has served for a while;
        returns how many. They keep the first result then, because nobody gives another opinion.
        """
        with self._database.transaction() as session:
            waited_for = job_store.forwarded_models(session)
            served = self._capacity(session).models if waited_for else frozenset()
        moment = time.monotonic()
        self._unserved = {model: self._unserved.get(model, moment) for model in waited_for - served}
        gone = [name for name, since in self._unserved.items() if moment - since >= UNSERVED_S]
        if not gone:
            return 0
        with self._database.transaction() as session:
            recalled = job_store.recall_forwarded(session, gone, limit=FORGET_ROWS)
        if recalled:
            RECONCILED.labels("second-model-gone").inc(recalled)
            log.warning("reconciled", action="second-model-gone", items=recalled, models=gone)
        return recalled


def _together(given: Sequence[Share]) -> Iterator[list[Share]]:
    """Group neighbouring jobs, so that few transactions publish them."""
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
