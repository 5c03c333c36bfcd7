"""Background rounds with very many open jobs: they are bounded and fair, and they stop without
their lease.
"""

import time
import uuid
from collections import Counter

import pytest
import sqlalchemy as sa

from shared import job_store, lease_recovery, reconciler
from shared.database import Database
from shared.jobs import EXPRESS_IMAGES, ItemStatus
from shared.leadership import Leadership
from shared.lease_recovery import LeaseRecovery
from shared.models import Item
from shared.queue import Celery, make_app, queue_depth
from shared.reconciler import Reconciler
from shared.settings import Settings
from shared.shares import Share
from tests.integration.stored_jobs import (
    assert_counters_match_rows,
    claim,
    expire_leases,
    new_job,
)
from tests.waiting import eventually

JOBS, PAGE = 25, 4


@pytest.fixture
def jobs(database: Database) -> list[uuid.UUID]:
    """One job per key. The queue has room for all of them."""
    return [new_job(database, 3) for _ in range(JOBS)]


def published(database: Database) -> Counter[uuid.UUID]:
    with database.transaction() as session:
        statement = sa.select(Item.job_id).where(Item.published_at.is_not(None))
        return Counter(session.scalars(statement))


def test_every_open_job_gets_its_turn_in_bounded_rounds(
    database: Database,
    queue: Celery,
    settings: Settings,
    jobs: list[uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler, "PAGE_JOBS", PAGE)
    monkeypatch.setattr(reconciler, "ROUND_S", 0.0)
    bounded = Reconciler(database, queue, settings)
    rounds = 1
    while bounded.round() == 0:
        assert len(published(database)) == PAGE * rounds, "a page a round"
        rounds += 1
    assert rounds == -(-JOBS // PAGE)
    assert published(database) == dict.fromkeys(jobs, 3)
    assert queue_depth(queue) == 3 * JOBS
    with database.transaction() as session:
        more = job_store.jobs_to_publish(session, dict.fromkeys(jobs, 9))
    assert more == [], "nothing is left, so nothing is asked about each"


def test_one_page_sends_at_most_its_limit(
    database: Database,
    queue: Celery,
    settings: Settings,
    jobs: list[uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler, "JOBS_AT_ONCE", 2)
    monkeypatch.setattr(reconciler, "PAGE_MESSAGES", 7)
    bounded = Reconciler(database, queue, settings)
    given = [Share(job_id, 9, EXPRESS_IMAGES) for job_id in jobs]
    sent, after = bounded.publish_page(given, None)
    assert (sent, after) == (12, jobs[3]), "the jobs at hand are filled up, and no others"
    assert bounded.publish_open_jobs() == 3 * JOBS - 12


def test_the_lease_is_checked_before_every_page(
    database: Database,
    queue: Celery,
    settings: Settings,
    jobs: list[uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This process loses its lease in the middle of a round, and another process takes over."""
    monkeypatch.setattr(reconciler, "ROUND_S", 60.0)
    monkeypatch.setattr(reconciler, "PAGE_JOBS", PAGE)
    pages = iter([True, True, True, False])
    monkeypatch.setattr(Leadership, "held", lambda _self: next(pages))
    Reconciler(database, queue, settings).round()
    assert len(published(database)) == 2 * PAGE


def test_a_lease_stays_with_its_owner_until_it_expires(database: Database) -> None:
    holder, other = (Leadership(database, "x", lease_s=60) for _ in range(2))
    assert holder.held()
    assert not other.held()
    assert holder.held()
    holder.release()
    assert other.held()
    short, next_one = (Leadership(database, "y", lease_s=0.01) for _ in range(2))
    assert short.held()
    eventually(next_one.held, "the lease to run out")


def at_once(settings: Settings) -> Settings:
    """Lease recovery that does not wait for workers after an outage."""
    return settings.model_copy(update={"lease_s": 0})


def test_items_of_dead_workers_are_taken_back_while_redis_is_down(
    database: Database, settings: Settings, jobs: list[uuid.UUID]
) -> None:
    away = make_app(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    stuck = Reconciler(database, away, settings)
    recovery = LeaseRecovery(database, at_once(settings))
    assert len(claim(database, jobs[0])) == 3
    expire_leases(database)
    stuck.start()
    recovery.start()
    try:
        eventually(lambda: running(database) == 0, "the expired leases to be taken back")
    finally:
        recovery.stop()
        stuck.stop()
        away.close()
    assert_counters_match_rows(database, jobs[0])


def running(database: Database) -> int:
    with database.transaction() as session:
        statement = sa.select(sa.func.count()).where(Item.status == ItemStatus.RUNNING)
        return int(session.scalar(statement) or 0)


def test_a_round_of_recovery_is_bounded_and_the_next_continues(
    database: Database,
    settings: Settings,
    jobs: list[uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease_recovery, "ROUND_S", 0.0)
    for job_id in jobs[:2]:
        claim(database, job_id)
    expire_leases(database)
    recovery = LeaseRecovery(database, at_once(settings))
    assert recovery.round() == 0
    assert running(database) == 0
    assert recovery.round() == settings.reconcile_s


def test_after_an_outage_of_the_database_workers_have_time_to_renew_their_leases(
    database: Database, settings: Settings, jobs: list[uuid.UUID]
) -> None:
    quick = settings.model_copy(update={"lease_s": 1.0})
    recovery = LeaseRecovery(database, quick)

    def taken_back() -> bool:
        recovery.round()
        return running(database) == 0

    claim(database, jobs[0])
    expire_leases(database)
    assert not taken_back(), "it has just started, and knows of no outage before"
    eventually(taken_back, "a dead worker's lease")
    ids = [one.item_id for one in claim(database, jobs[1], "w1")]
    expire_leases(database)
    time.sleep(0.6)  # the outage: no contact with the database for more than half a lease
    assert not taken_back()
    with database.transaction() as session:
        job_store.renew_leases(session, ids, owner="w1", lease_s=60)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert not taken_back(), "its worker is back"
        time.sleep(0.1)
