"""Events between two steps of another process: on SQLite and on PostgreSQL."""

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database, Session, now
from shared.errors import DatabaseError, TruncatedImageError
from shared.job_store import Claim, Settlement, SettlementState
from shared.jobs import JobStatus
from shared.models import Item
from shared.result_names import NamedPhoto
from tests.integration.stored_jobs import (
    LEASE_S,
    assert_counters_match_rows,
    claim,
    expire_leases,
    finish,
    item_ids,
    new_job,
    photos,
    read,
)
from tests.waiting import eventually


def test_a_late_worker_cannot_record_an_attempt_after_a_retry(database: Database) -> None:
    """A retry counts attempts from the start, so attempt numbers repeat."""
    job_id = new_job(database, 1)
    [late] = claim(database, job_id, "late")
    expire_leases(database)
    with database.transaction() as session:
        job_store.release_expired_leases(session, max_attempts=1)
        assert job_store.retry_failed(session, job_id).queued == 1
    [second] = claim(database, job_id, "second")
    assert second.attempt == late.attempt
    assert finish(database, [Settlement(claim=late, error_code="x", error_detail="x")]) == [
        SettlementState.STALE
    ]
    assert finish(database, [Settlement(claim=second, result_key="k")]) == [
        SettlementState.RECORDED
    ]
    assert_counters_match_rows(database, job_id)


def test_a_message_consumed_before_it_was_noted_is_sent_again(
    database: Database,
) -> None:
    """The image was claimed and put back after its message was sent and before that was noted. So
    it has no message any more.
    """
    job_id = new_job(database, 1)
    with database.transaction() as session:
        sent = job_store.publishable(session, job_id, ahead=10)
    [one] = claim(database, job_id)
    with database.transaction() as session:
        due = now(session) - timedelta(seconds=1)
    finish(database, [Settlement(claim=one, error_code="x", error_detail="x", retry_at=due)])
    with database.transaction() as session:
        job_store.mark_published_many(session, sent)
    with database.transaction() as session:
        again = job_store.publishable(session, job_id, ahead=10)
    assert [item.item_id for item in again] == [one.item_id]


def test_failed_images_of_a_cancelled_job_are_retried_and_its_source_is_not(
    database: Database,
) -> None:
    """The job was cancelled while its source was listed. Nobody wants the rest of the source."""
    job_id = new_job(database, 2, expanded=False)
    first, _ = claim(database, job_id)
    finish(database, [Settlement(claim=first, error_code="x", error_detail="x")])
    with database.transaction() as session:
        job_store.cancel_job(session, job_id)
        job_store.retry_failed(session, job_id)
    with database.transaction() as session:
        assert job_store.unexpanded_jobs(session) == []
    expire_leases(database)
    with database.transaction() as session:
        job_store.release_expired_leases(session, max_attempts=4)
    again = claim(database, job_id)
    finish(database, [Settlement(claim=one, result_key="k") for one in again])
    assert read(database, job_id).status is JobStatus.FINISHED
    assert_counters_match_rows(database, job_id)


def test_a_page_after_the_last_one_adds_nothing(database: Database) -> None:
    """A slow lister continues after another one has listed the source to its end."""
    job_id = new_job(database, 1)
    finish(database, [Settlement(claim=one, result_key="k") for one in claim(database, job_id)])
    assert read(database, job_id).status is JobStatus.FINISHED
    with database.transaction() as session:
        assert not job_store.add_page(session, job_id, photos(range(5, 8)), cursor="8")
    job = read(database, job_id)
    assert (job.total, job.queued, job.expansion_cursor) == (1, 0, None)
    assert_counters_match_rows(database, job_id)


def test_text_that_the_database_cannot_store_fails_no_batch(database: Database) -> None:
    """Libraries quote contents of a file in their error messages."""
    job_id = new_job(database, 2)
    bad, good = claim(database, job_id)
    error = TruncatedImageError("tag \0 of \ud800 " + "y" * 10_000)
    finish(
        database,
        [
            Settlement(claim=bad, error_code=error.code, error_detail=error.message),
            Settlement(claim=good, result_key="k"),
        ],
    )
    assert read(database, job_id).status is JobStatus.FINISHED
    assert error.message.startswith("tag  of  yyy")
    assert error.message.endswith(error.remedy)
    assert len(error.detail) == 2_000


Step = Callable[[Session, uuid.UUID, list[uuid.UUID]], object]


def held(session: Session, item_ids: list[uuid.UUID]) -> None:
    job_store.renew_leases(session, item_ids, owner="w1", lease_s=LEASE_S)


def recorded(session: Session, job_id: uuid.UUID, item_ids: list[uuid.UUID]) -> None:
    claims = [
        Claim(
            item_id=one,
            job_id=job_id,
            name="1.jpg",
            source="s3://photos/1.jpg",
            api_key_id=uuid.uuid4(),
            owner="w1",
            attempt=1,
            options={},
            claimed_at=now(session),
            photo=NamedPhoto("1.jpg", None, 1, {}),
        )
        for one in item_ids
    ]
    settlements = [Settlement(claim=claim, error_code="x", error_detail="x") for claim in claims]
    states = job_store.finish_many(session, settlements)
    assert states == [SettlementState.RECORDED] * len(item_ids)


STEPS: dict[str, tuple[bool, Step]] = {
    "heartbeat": (True, lambda session, _, ids: held(session, ids)),
    "record": (True, lambda session, job_id, ids: recorded(session, job_id, ids)),
    "publisher's note": (
        False,
        lambda session, job_id, _: job_store.mark_published_many(
            session, job_store.publishable(session, job_id, ahead=10)
        ),
    ),
    "message lost": (
        False,
        lambda session, *_: job_store.forget_publications(
            session, job_store.unclaimed(session, older_than_s=-1, limit=10)
        ),
    ),
    "claim": (
        False,
        lambda session, job_id, ids: job_store.claim_many(
            session, ids, job_ids=[job_id], owner="w2", lease_s=LEASE_S
        ),
    ),
    "cancel": (False, lambda session, job_id, _: job_store.cancel_job(session, job_id)),
}


@pytest.mark.parametrize("name", STEPS)
def test_rows_are_locked_in_the_order_of_their_ids(
    migrated_postgresql: Database, name: str
) -> None:
    """Otherwise two transactions that lock the same rows would deadlock."""
    database = migrated_postgresql
    running, step = STEPS[name]
    job_id = new_job(database, 2)
    ids = item_ids(database, job_id)
    if name == "message lost":
        with database.transaction() as session:
            note = job_store.publishable(session, job_id, ahead=10)
            job_store.mark_published_many(session, note)
    if running:
        claim(database, job_id)
    for item_id in reversed(ids):  # this reverses their physical order
        with database.transaction() as session:
            session.execute(sa.update(Item).where(Item.id == item_id).values(custom_id="x"))
    failed: list[Exception] = []
    begun = threading.Event()

    def other() -> None:
        try:
            with database.transaction() as session:
                session.execute(sa.text("SET LOCAL enable_indexscan = off"))
                session.execute(sa.text("SET LOCAL enable_bitmapscan = off"))
                begun.set()
                step(session, job_id, ids)
        except DatabaseError as error:
            failed.append(error)

    thread = threading.Thread(target=other)
    with database.transaction() as session:
        lock = sa.select(Item.id).with_for_update()
        session.execute(lock.where(Item.id == ids[0]))
        thread.start()
        assert begun.wait(180)
        eventually(lambda: waiting_for_locks(database) == 1, "the other to wait for the first row")
        # free, unless the other transaction locked it first
        session.execute(lock.where(Item.id == ids[1]))
    thread.join(180)
    assert failed == []


def waiting_for_locks(database: Database) -> int:
    with database.transaction() as session:
        statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return int(session.scalar(sa.text(statement)) or 0)
