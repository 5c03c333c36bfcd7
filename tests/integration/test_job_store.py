"""Every test here runs on SQLite and on PostgreSQL."""

import threading
import uuid
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database, now
from shared.errors import DatabaseError
from shared.job_store import Claim, NewItem, Settlement, SettlementState
from shared.jobs import ENDED, ITEM_TRANSITIONS, SETTLED, ItemStatus, JobStatus
from shared.models import Base, Item, Job

LEASE_S = 20.0


def new_key(database: Database, name: str = "tests") -> uuid.UUID:
    with database.transaction() as session:
        return job_store.create_api_key(session, name)[0].id


def new_job(database: Database, count: int, api_key_id: uuid.UUID | None = None) -> uuid.UUID:
    with database.transaction() as session:
        owner = api_key_id or job_store.create_api_key(session, "tests")[0].id
        job = job_store.create_job(
            session, api_key_id=owner, options={}, priority=5, labels={}, source={"kind": "keys"}
        )
        job_store.add_items(session, job.id, photos(range(count)))
        job_store.finish_expansion(session, job.id)
        return job.id


def photos(numbers: range) -> list[NewItem]:
    return [NewItem(name=f"{n}.jpg", source=f"s3://photos/{n}.jpg") for n in numbers]


def item_ids(database: Database, job_id: uuid.UUID) -> list[uuid.UUID]:
    with database.transaction() as session:
        statement = sa.select(Item.id).where(Item.job_id == job_id).order_by(Item.position)
        return list(session.scalars(statement))


def claim(
    database: Database, job_id: uuid.UUID, owner: str = "w1", *, alone: bool = False
) -> list[Claim]:
    ids = item_ids(database, job_id)
    with database.transaction() as session:
        return job_store.claim_many(
            session, ids, job_ids=[job_id], owner=owner, lease_s=LEASE_S, alone=alone
        )


def finish(database: Database, settlements: list[Settlement]) -> list[SettlementState]:
    with database.transaction() as session:
        return job_store.finish_many(session, settlements)


def expire_leases(database: Database) -> None:
    with database.transaction() as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(
            sa.update(Item).where(Item.status == ItemStatus.RUNNING).values(lease_expires_at=past)
        )


def read(database: Database, job_id: uuid.UUID) -> Job:
    with database.transaction() as session:
        return session.get_one(Job, job_id)


def assert_counters_match_rows(database: Database, job_id: uuid.UUID) -> None:
    job = read(database, job_id)
    with database.transaction() as session:
        rows = Counter(session.scalars(sa.select(Item.status).where(Item.job_id == job_id)))
    for status in ItemStatus:
        assert getattr(job, status.value) == rows[status], status
    assert job.total == sum(rows.values())


def test_migrations_build_exactly_what_the_models_say(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_two_processes_may_migrate_at_once(database_url: str) -> None:
    databases = [Database(database_url, process="tests") for _ in range(2)]
    threads = [threading.Thread(target=one.migrate) for one in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(now == newest for now, newest in (one.revisions() for one in databases))
    for one in databases:
        one.close()


def test_the_same_object_twice_in_a_job_is_one_item(database: Database) -> None:
    job_id = new_job(database, 3)
    with database.transaction() as session:
        assert job_store.add_items(session, job_id, photos(range(2, 5))) == 2
    assert read(database, job_id).total == 5
    assert_counters_match_rows(database, job_id)


def test_items_keep_the_order_of_their_source_over_many_inserts(database: Database) -> None:
    job_id = new_job(database, 1_234)
    with database.transaction() as session:
        names = list(
            session.scalars(
                sa.select(Item.name).where(Item.job_id == job_id).order_by(Item.position)
            )
        )
    assert names == [f"{n}.jpg" for n in range(1_234)]


def test_a_claimed_item_is_nobody_elses(database: Database) -> None:
    job_id = new_job(database, 5)
    first = claim(database, job_id, "w1")
    assert [one.attempt for one in first] == [1] * 5
    assert claim(database, job_id, "w2") == []
    assert read(database, job_id).status is JobStatus.RUNNING
    assert_counters_match_rows(database, job_id)


def test_workers_that_claim_at_once_share_nothing(database: Database) -> None:
    job_id = new_job(database, 60)
    ids = item_ids(database, job_id)
    taken: list[uuid.UUID] = []
    lock = threading.Lock()

    def work(owner: str) -> None:
        for start in range(0, 60, 10):
            with database.transaction() as session:
                mine = job_store.claim_many(
                    session, ids[start : start + 10], job_ids=[job_id], owner=owner, lease_s=9
                )
            with lock:
                taken.extend(one.item_id for one in mine)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == sorted(ids)
    assert_counters_match_rows(database, job_id)


def test_a_batch_is_recorded_with_its_counters_and_ends_the_job(database: Database) -> None:
    job_id = new_job(database, 3)
    good, bad, other = claim(database, job_id)
    states = finish(
        database,
        [
            Settlement(
                claim=good,
                result_key="jobs/x.png",
                width=100,
                height=50,
                input_bytes=10,
                output_bytes=20,
                timings_ms={"fetch": 1.5, "predict": 2.5},
            ),
            Settlement(claim=bad, error_code="not-an-image", error_detail="no"),
            Settlement(claim=other, result_key="jobs/y.png", timings_ms={"fetch": 0.5}),
        ],
    )
    assert states == [SettlementState.RECORDED] * 3
    job = read(database, job_id)
    assert job.status is JobStatus.FINISHED
    assert job.finished_at is not None
    assert (job.succeeded, job.failed, job.pixels) == (2, 1, 5_000)
    assert (job.fetch_ms, job.predict_ms) == (2.0, 2.5)
    assert_counters_match_rows(database, job_id)


def test_an_error_worth_another_try_puts_the_item_back(database: Database) -> None:
    job_id = new_job(database, 1)
    (one,) = claim(database, job_id)
    with database.transaction() as session:
        later = now(session) + timedelta(hours=1)
    state = finish(
        database,
        [Settlement(claim=one, error_code="storage-unavailable", error_detail="x", retry_at=later)],
    )
    assert state == [SettlementState.RETRY]
    assert read(database, job_id).status is JobStatus.RUNNING
    with database.transaction() as session:
        assert job_store.publishable(session, job_id, ahead=10) == []
    assert_counters_match_rows(database, job_id)


def test_a_late_worker_cannot_overwrite_what_another_did(database: Database) -> None:
    job_id = new_job(database, 1)
    (late,) = claim(database, job_id, "late")
    expire_leases(database)
    with database.transaction() as session:
        assert job_store.release_expired(session, max_attempts=3) == 1
    (second,) = claim(database, job_id, "second")
    assert second.attempt == 2
    assert finish(database, [Settlement(claim=late, error_code="x", error_detail="x")]) == [
        SettlementState.STALE
    ]
    assert finish(database, [Settlement(claim=second, result_key="k")]) == [
        SettlementState.RECORDED
    ]
    assert finish(database, [Settlement(claim=late, result_key="other")]) == [SettlementState.STALE]
    assert read(database, job_id).succeeded == 1
    assert_counters_match_rows(database, job_id)


def test_a_renewed_lease_holds(database: Database) -> None:
    job_id = new_job(database, 2)
    first, _second = claim(database, job_id, "w1")
    expire_leases(database)
    with database.transaction() as session:
        job_store.renew_leases(session, [first.item_id], owner="w1", lease_s=LEASE_S)
        assert job_store.release_expired(session, max_attempts=3) == 1
    assert_counters_match_rows(database, job_id)


def test_an_item_whose_workers_keep_dying_fails_at_last(database: Database) -> None:
    job_id = new_job(database, 1)
    for _ in range(2):
        assert len(claim(database, job_id)) == 1
        expire_leases(database)
        with database.transaction() as session:
            job_store.release_expired(session, max_attempts=2)
    job = read(database, job_id)
    assert (job.failed, job.status) == (1, JobStatus.FINISHED)
    assert claim(database, job_id) == []
    assert_counters_match_rows(database, job_id)


def test_what_workers_die_of_is_suspected_then_run_alone_then_given_up(database: Database) -> None:
    job_id = new_job(database, 1)
    for deaths in range(4):
        with database.transaction() as session:
            alone = job_store.lonely(session, item_ids(database, job_id))
        assert len(alone) == (deaths >= 2)
        if alone:
            assert claim(database, job_id) == [], "not with others"
        [held] = claim(database, job_id, alone=bool(alone))
        assert held.suspect == (deaths > 0)
        expire_leases(database)
        with database.transaction() as session:
            job_store.release_expired(session, max_attempts=4)
        assert_counters_match_rows(database, job_id)
    job = read(database, job_id)
    assert (job.failed, job.status, job.suspect) == (1, JobStatus.FINISHED, True)
    with database.transaction() as session:
        [code] = session.scalars(sa.select(Item.error_code).where(Item.job_id == job_id))
    assert code == "poisonous-image"


def test_one_guilty_photo_makes_its_job_suspect(database: Database) -> None:
    job_id = new_job(database, 2)
    first, second = claim(database, job_id)
    assert not second.suspect
    finish(database, [Settlement(claim=first, error_code="image-timeout", error_detail="x")])
    expire_leases(database)
    with database.transaction() as session:
        job_store.release_expired(session, max_attempts=4)
    assert read(database, job_id).suspect
    assert [one.suspect for one in claim(database, job_id)] == [True]


def test_cancelling_leaves_only_what_is_in_flight(database: Database) -> None:
    job_id = new_job(database, 4)
    ids = item_ids(database, job_id)
    with database.transaction() as session:
        held = job_store.claim_many(session, ids[:1], job_ids=[job_id], owner="w", lease_s=LEASE_S)
        job_store.cancel_job(session, job_id)
    job = read(database, job_id)
    assert (job.status, job.cancelled, job.running) == (JobStatus.CANCELLED, 3, 1)
    assert claim(database, job_id) == []
    finish(database, [Settlement(claim=held[0], result_key="k")])
    assert read(database, job_id).status is JobStatus.CANCELLED
    assert_counters_match_rows(database, job_id)


def test_retry_takes_the_failed_ones_only(database: Database) -> None:
    job_id = new_job(database, 3)
    first, second, third = claim(database, job_id)
    finish(
        database,
        [
            Settlement(claim=first, result_key="k"),
            Settlement(claim=second, error_code="x", error_detail="x"),
            Settlement(claim=third, error_code="x", error_detail="x"),
        ],
    )
    with database.transaction() as session:
        job_store.retry_failed(session, job_id)
    job = read(database, job_id)
    assert (job.status, job.queued, job.failed) == (JobStatus.RUNNING, 2, 0)
    again = claim(database, job_id)
    assert [one.attempt for one in again] == [1, 1]
    assert_counters_match_rows(database, job_id)


def test_no_job_gets_more_than_its_share_onto_the_queue(database: Database) -> None:
    job_id = new_job(database, 30)
    with database.transaction() as session:
        due = job_store.publishable(session, job_id, ahead=10)
        assert len(due) == 10
        job_store.mark_published_many(session, [one.item_id for one in due])
        assert job_store.publishable(session, job_id, ahead=10) == []
    with database.transaction() as session:
        job_store.claim_many(
            session, [due[0].item_id], job_ids=[job_id], owner="w", lease_s=LEASE_S
        )
    with database.transaction() as session:
        assert job_store.publishable(session, job_id, ahead=10) == []  # in flight counts too
        assert job_store.forget_publication(session, older_than_s=-1) == 9
        assert len(job_store.publishable(session, job_id, ahead=10)) == 9


def test_pages_cover_every_item_once(database: Database) -> None:
    job_id = new_job(database, 23)
    seen: list[int] = []
    after = 0
    while True:
        with database.transaction() as session:
            page = job_store.list_items(session, job_id, status=None, after=after, limit=5)
        if not page:
            break
        seen += [item.position for item in page]
        after = page[-1].position
    assert seen == list(range(1, 24))


def test_one_key_never_sees_anothers_jobs(database: Database) -> None:
    mine, theirs = new_key(database, "mine"), new_key(database, "theirs")
    job_id = new_job(database, 1, mine)
    (item_id,) = item_ids(database, job_id)
    with database.transaction() as session:
        assert job_store.get_job(session, job_id, api_key_id=mine) is not None
        assert job_store.get_job(session, job_id, api_key_id=theirs) is None
        assert job_store.get_item(session, item_id, api_key_id=theirs) is None
        assert list(job_store.list_jobs(session, api_key_id=theirs, before=None, limit=10)) == []


def test_only_the_hash_of_a_key_is_stored_and_a_revoked_one_is_useless(
    database: Database,
) -> None:
    with database.transaction() as session:
        key, secret = job_store.create_api_key(session, "shop")
        assert secret not in (key.sha256, key.hint)
        found = job_store.find_api_key(session, secret)
        assert found is not None
        assert found.id == key.id
        assert job_store.find_api_key(session, secret[:-1]) is None
        job_store.revoke_api_key(session, key.id)
        assert job_store.find_api_key(session, secret) is None


def test_a_worker_that_falls_silent_is_not_live(database: Database) -> None:
    with database.transaction() as session:
        job_store.register_worker(session, "w1", {"model": "m"})
        assert [one.id for one in job_store.live_workers(session, stale_s=15)] == ["w1"]
        assert list(job_store.live_workers(session, stale_s=-1)) == []
        job_store.beat(session, "w1", state="stopping")
        assert list(job_store.live_workers(session, stale_s=15)) == []


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    job_id = new_job(database, 2)

    def add_and_fail() -> None:
        with database.transaction() as session:
            job_store.add_items(session, job_id, photos(range(10, 20)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    assert read(database, job_id).total == 2


def test_a_database_that_is_away_is_a_database_error() -> None:
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/none", process="tests")
    with pytest.raises(DatabaseError):
        away.ping()
    away.close()


def test_the_transition_table_agrees_with_what_ends() -> None:
    assert all(not ITEM_TRANSITIONS[status] - {ItemStatus.QUEUED} for status in SETTLED)
    assert {status.value for status in ENDED} == {"finished", "cancelled"}
