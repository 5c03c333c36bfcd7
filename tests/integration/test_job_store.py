"""Jobs and items in the database, and who sees them: on SQLite and on PostgreSQL."""

import uuid

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.errors import IdempotencyKeyReusedError, LeftOutError, QuotaExceededError
from shared.job_store import NewItem, Settlement
from shared.jobs import ENDED, ITEM_TRANSITIONS, SETTLED, ItemStatus, JobStatus
from shared.models import Item, Job
from tests.integration.stored_jobs import (
    LEASE_S,
    assert_counters_match_rows,
    claim,
    finish,
    item_ids,
    new_job,
    new_key,
    photos,
    read,
)


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


def test_cancelling_leaves_only_images_in_flight(database: Database) -> None:
    job_id = new_job(database, 4)
    ids = item_ids(database, job_id)
    with database.transaction() as session:
        held = job_store.claim_many(
            session, ids[:1], job_ids=[job_id], owner="w", lease_s=LEASE_S
        ).claims()
        job_store.cancel_job(session, job_id)
    job = read(database, job_id)
    assert (job.status, job.cancelled, job.running) == (JobStatus.CANCELLED, 3, 1)
    assert claim(database, job_id) == []
    finish(database, [Settlement(claim=held[0], result_key="k")])
    assert read(database, job_id).status is JobStatus.CANCELLED
    assert_counters_match_rows(database, job_id)


def test_retry_takes_only_failed_images(database: Database) -> None:
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


def test_retrying_failed_images_counts_against_the_quota(database: Database) -> None:
    with database.transaction() as session:
        key = job_store.create_api_key(session, "tests", images_per_month=10)[0].id
    jobs = []
    for _ in range(5):
        job_id = new_job(database, 10, key)
        jobs.append(job_id)
        finish(
            database,
            [
                Settlement(claim=one, error_code="x", error_detail="x")
                for one in claim(database, job_id)
            ],
        )
    with database.transaction() as session:  # failed images are free
        assert job_store.images_left(session, key) == 10
        job_store.retry_failed(session, jobs[0])
        assert job_store.images_left(session, key) == 0
    for job_id in jobs[1:]:
        with database.transaction() as session, pytest.raises(QuotaExceededError):
            job_store.retry_failed(session, job_id)
        assert read(database, job_id).failed == 10
    finish(database, [Settlement(claim=one, result_key="k") for one in claim(database, jobs[0])])
    with database.transaction() as session, pytest.raises(QuotaExceededError):
        job_store.retry_failed(session, jobs[1])
    with database.transaction() as session:  # nothing failed, so nothing counts
        assert job_store.retry_failed(session, jobs[0]).succeeded == 10


def test_a_job_is_at_rest_when_nothing_more_happens_by_itself(database: Database) -> None:
    job_id = new_job(database, 4)
    with database.transaction() as session:
        session.execute(sa.update(Job).values(failure_share=0.1, failure_after=1))
    first, *_ = claim(database, job_id)
    assert not job_store.is_at_rest(read(database, job_id))
    finish(database, [Settlement(claim=first, error_code="x", error_detail="x")])
    job = read(database, job_id)
    assert (job.status, job.running) == (JobStatus.PAUSED, 3)
    assert not job_store.is_at_rest(job), "workers have images of it"
    with database.transaction() as session:
        session.execute(sa.update(Job).values(running=0))
    assert job_store.is_at_rest(read(database, job_id))
    with database.transaction() as session:
        session.execute(sa.update(Job).values(error_code=None))
    assert not job_store.is_at_rest(read(database, job_id)), "its caller holds it, and resumes it"


def test_files_that_are_no_photos_pause_no_job(database: Database) -> None:
    job_id = new_job(database, 2, expanded=False)
    raw = [NewItem(name=f"{n}.arw", source=f"row:{n}", error=LeftOutError()) for n in range(6)]
    with database.transaction() as session:
        job_store.add_items(session, job_id, raw)
        job_store.finish_expansion(session, job_id)
        session.execute(sa.update(Job).values(failure_share=0.5, failure_after=1))
    first, _ = claim(database, job_id)
    finish(database, [Settlement(claim=first, result_key="k")])
    job = read(database, job_id)
    assert (job.status, job.failed) == (JobStatus.RUNNING, 6)


def test_an_idempotency_key_is_known_until_its_job_is_deleted(database: Database) -> None:
    key = new_key(database)
    first, second, third = (new_job(database, 1, key) for _ in range(3))

    def remember(job_id: uuid.UUID, sha256: str = "a") -> bool:
        with database.transaction() as session:
            return job_store.remember_submission(
                session, job_id, api_key_id=key, key="k", sha256=sha256
            )

    def found(sha256: str = "a") -> uuid.UUID | None:
        with database.transaction() as session:
            job = job_store.find_submission(session, api_key_id=key, key="k", sha256=sha256)
            return None if job is None else job.id

    assert remember(first)
    assert not remember(second)
    assert found() == first
    with pytest.raises(IdempotencyKeyReusedError):
        found("b")
    with database.transaction() as session:
        job_store.delete_job(session, first)
    assert found() is None
    assert found("b") is None
    assert remember(second, "b")
    assert not remember(third)
    assert found("b") == second


def test_the_first_images_are_express_although_positions_have_gaps(database: Database) -> None:
    key = new_key(database)
    job_id = new_job(database, 0, key)
    twice = [*photos(range(1)), *photos(range(1)), *photos(range(1)), *photos(range(1, 3))]
    with database.transaction() as session:
        assert job_store.add_items(session, job_id, twice) == 3

    def due(express: int) -> list[str]:
        with database.transaction() as session:
            found = job_store.publishable(session, job_id, ahead=10, express=express)
            return [message.name for message in found]

    assert [len(due(express)) for express in (0, 1, 2, 3, 8)] == [0, 1, 2, 3, 3]
    assert due(2) == ["0.jpg", "1.jpg"]


def test_no_job_gets_more_than_its_share_onto_the_queue(database: Database) -> None:
    job_id = new_job(database, 30)
    with database.transaction() as session:
        due = job_store.publishable(session, job_id, ahead=10)
        assert len(due) == 10
        job_store.mark_published_many(session, due)
        assert job_store.publishable(session, job_id, ahead=10) == []
    with database.transaction() as session:
        job_store.claim_many(
            session, [due[0].item_id], job_ids=[job_id], owner="w", lease_s=LEASE_S
        )
    with database.transaction() as session:
        assert job_store.publishable(session, job_id, ahead=10) == []  # images in flight count too
        sent = job_store.unclaimed(session, older_than_s=-1, limit=100)
        assert job_store.forget_publications(session, sent) == 9
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


def test_only_the_hash_of_a_key_is_stored_and_a_revoked_key_is_invalid(
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


def test_the_transition_table_agrees_with_what_ends() -> None:
    assert all(not ITEM_TRANSITIONS[status] - {ItemStatus.QUEUED} for status in SETTLED)
    assert {status.value for status in ENDED} == {"finished", "cancelled"}
