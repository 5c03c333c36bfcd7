"""Changes of whole jobs in pages: counters, the end, a crash between two pages."""

import uuid

import pytest
import sqlalchemy as sa

from api.background.job_changes import JobChanger
from shared import job_store
from shared.database import Database, Session, now
from shared.errors import JobChangingError
from shared.job_store import Settlement, changes
from shared.jobs import ItemStatus, JobStatus
from shared.models import Item, Job
from tests.integration.stored_jobs import (
    assert_counters_match_rows,
    claim,
    finish,
    item_ids,
    new_job,
    read,
)
from tests.waiting import eventually

PAGE = 10


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PAGE_ITEMS", PAGE)


def statuses(database: Database, job_id: uuid.UUID) -> dict[str, int]:
    with database.transaction() as session:
        statement = sa.select(Item.status, sa.func.count()).where(Item.job_id == job_id)
        return {row[0].value: row[1] for row in session.execute(statement.group_by(Item.status))}


def failed_job(database: Database, images: int) -> uuid.UUID:
    job_id = new_job(database, images)
    claims = claim(database, job_id)
    finish(database, [Settlement(claim=one, error_code="not-an-image") for one in claims])
    return job_id


def page(database: Database, job_id: uuid.UUID) -> int:
    with database.transaction() as session:
        return job_store.continue_change(session, job_id)


@pytest.mark.parametrize("images", [PAGE - 1, PAGE, PAGE + 1, 5 * PAGE])
def test_a_job_is_cancelled_at_once_and_its_images_follow(database: Database, images: int) -> None:
    job_id = new_job(database, images)
    with database.transaction() as session:
        job = job_store.cancel_job(session, job_id)
    assert (job.status, job.queued, job.cancelled) == (JobStatus.CANCELLED, 0, images)
    assert statuses(database, job_id)["cancelled"] == min(PAGE, images), "the first page"
    assert claim(database, job_id) == [], "none of the others is taken up"
    changer = JobChanger(database)
    while changer.round() == 0:
        pass
    assert statuses(database, job_id) == {"cancelled": images}
    assert read(database, job_id).pending_change is None
    assert_counters_match_rows(database, job_id)


def test_many_changes_of_one_key_hold_up_no_other_key(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.background.job_changes.JOBS_AT_ONCE", 3)
    with database.transaction() as session:
        key_id = job_store.create_api_key(session, "one")[0].id
    many = [new_job(database, 9 * PAGE, key_id) for _ in range(5)]
    other = new_job(database, 2 * PAGE)
    with database.transaction() as session:
        for job_id in [*many, other]:
            job_store.cancel_job(session, job_id)
        mine = Job.id.in_([*many, other])
        session.execute(sa.update(Job).where(mine).values(grouping_after=""))
        assert other in job_store.grouping_jobs(session, limit=3)
    changer = JobChanger(database)
    changer.round()
    assert statuses(database, other) == {"cancelled": 2 * PAGE}, "it had its turn"
    while changer.round() == 0:
        pass
    assert [statuses(database, job_id) for job_id in many] == [{"cancelled": 9 * PAGE}] * 5


def test_another_process_finishes_a_change_after_a_crash(database: Database) -> None:
    """The other process only has the rows to see how far the change came."""
    job_id = failed_job(database, 5 * PAGE)
    with database.transaction() as session:
        job_store.retry_failed(session, job_id)
    assert page(database, job_id) == PAGE
    assert_counters_match_rows(database, job_id)

    def crash() -> None:
        with database.transaction() as session:
            job_store.continue_change(session, job_id)
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        crash()
    assert_counters_match_rows(database, job_id)
    other = JobChanger(database)
    other.start()
    eventually(lambda: read(database, job_id).pending_change is None, "the change to end")
    other.stop()
    assert statuses(database, job_id) == {"queued": 5 * PAGE}
    assert_counters_match_rows(database, job_id)


def test_a_job_does_not_finish_while_a_retry_is_under_way(database: Database) -> None:
    job_id = failed_job(database, 3 * PAGE)
    with database.transaction() as session:
        assert job_store.retry_failed(session, job_id).status is JobStatus.RUNNING
    claims = claim(database, job_id)
    assert len(claims) == PAGE
    finish(database, [Settlement(claim=one, result_key="k") for one in claims])
    job = read(database, job_id)
    assert (job.status, job.succeeded, job.failed) == (JobStatus.RUNNING, PAGE, 2 * PAGE)
    while page(database, job_id):
        pass
    claims = claim(database, job_id)
    finish(database, [Settlement(claim=one, result_key="k") for one in claims])
    job = read(database, job_id)
    assert (job.status, job.succeeded) == (JobStatus.FINISHED, 3 * PAGE)
    assert_counters_match_rows(database, job_id)


def test_images_that_fail_again_during_a_retry_are_not_retried_twice(database: Database) -> None:
    job_id = failed_job(database, 2 * PAGE)
    with database.transaction() as session:
        job_store.retry_failed(session, job_id)
    claims = claim(database, job_id)
    finish(database, [Settlement(claim=one, error_code="not-an-image") for one in claims])
    while page(database, job_id):
        pass
    job = read(database, job_id)
    assert (job.queued, job.failed) == (PAGE, PAGE)
    assert_counters_match_rows(database, job_id)


def test_a_job_that_settles_before_the_last_page_ends_with_it(database: Database) -> None:
    """The last page finds no rows, and everything else is done."""
    job_id = failed_job(database, PAGE)
    with database.transaction() as session:
        job_store.retry_failed(session, job_id)
    claims = claim(database, job_id)
    finish(database, [Settlement(claim=one, result_key="k") for one in claims])
    assert read(database, job_id).status is JobStatus.RUNNING
    assert page(database, job_id) == 0
    assert read(database, job_id).status is JobStatus.FINISHED


def test_a_retry_waits_for_a_running_cancellation(database: Database) -> None:
    """Otherwise the retry would continue images that should be cancelled."""
    job_id = new_job(database, 3 * PAGE)
    bad = claim(database, job_id)[0]
    finish(database, [Settlement(claim=bad, error_code="not-an-image")])
    release(database, job_id)
    with database.transaction() as session:
        job_store.cancel_job(session, job_id)
    with pytest.raises(JobChangingError), database.transaction() as session:
        job_store.retry_failed(session, job_id)
    while page(database, job_id):
        pass
    with database.transaction() as session:
        assert job_store.retry_failed(session, job_id).queued == 1
    assert_counters_match_rows(database, job_id)


def release(database: Database, job_id: uuid.UUID) -> None:
    """Put back the claimed images, as if their worker had died."""
    with database.transaction() as session:
        session.execute(
            sa.update(Item)
            .where(Item.job_id == job_id, Item.status == ItemStatus.RUNNING)
            .values(lease_expires_at=now(session))
        )
    with database.transaction() as session:
        job_store.release_expired_leases(session, max_attempts=9)


def test_cancelling_ends_a_retry_that_is_under_way(database: Database) -> None:
    job_id = failed_job(database, 3 * PAGE)
    with database.transaction() as session:
        job_store.retry_failed(session, job_id)
    with database.transaction() as session:
        job = job_store.cancel_job(session, job_id)
    assert (job.queued, job.cancelled, job.failed) == (0, PAGE, 2 * PAGE)
    while page(database, job_id):
        pass
    assert statuses(database, job_id) == {"cancelled": PAGE, "failed": 2 * PAGE}
    assert_counters_match_rows(database, job_id)


def test_a_deleted_job_is_gone_at_once_and_its_rows_go_in_pages(database: Database) -> None:
    job_id = new_job(database, 3 * PAGE)
    with database.transaction() as session:
        job_store.delete_job(session, job_id)
    assert page(database, job_id) == 0, "nobody sees what its images are"
    with database.transaction() as session:
        assert job_store.deleted_jobs(session, limit=9).removable == [job_id]
    removed: list[int] = []
    for _ in range(4):
        after = removed[-1] if removed else 0
        with database.transaction() as session:
            removed += job_store.remove_items(session, job_id, limit=PAGE, after=after)
        assert len(removed) <= 3 * PAGE
    assert removed == list(range(1, 3 * PAGE + 1))
    with database.transaction() as session:
        job_store.remove_job(session, job_id)
        assert session.get(Job, job_id) is None


def test_a_resumed_job_sends_again_only_images_that_were_in_the_queue(database: Database) -> None:
    job_id = new_job(database, 30)
    with database.transaction() as session:
        sent = job_store.publishable(session, job_id, ahead=5)
        job_store.mark_published_many(session, sent)
        job_store.pause_job(session, job_id)
    with database.transaction() as session:
        job_store.resume_job(session, job_id)
    with database.transaction() as session:
        again = job_store.publishable(session, job_id, ahead=5)
    assert [one.item_id for one in again] == item_ids(database, job_id)[:5]


def test_batches_of_a_job_continue_while_it_is_changed(
    migrated_postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PAGE_ITEMS", 100)
    database = migrated_postgresql
    job_id = new_job(database, 5_000)
    with database.transaction() as session:
        ids = item_ids(database, job_id)[:1]
        [held] = job_store.claim_many(
            session, ids, job_ids=[job_id], owner="w", lease_s=60
        ).claims()
        job_store.cancel_job(session, job_id)
    changer = JobChanger(database)
    changer.start()
    finish(database, [Settlement(claim=held, result_key="k")])
    left = statuses(database, job_id).get("queued", 0)
    eventually(lambda: read(database, job_id).pending_change is None, "the change to end")
    changer.stop()
    assert left > 0, "the batch was recorded before all pages were done"
    assert_counters_match_rows(database, job_id)


def test_a_job_that_can_t_be_changed_holds_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = new_job(database, 2 * PAGE), new_job(database, 2 * PAGE)
    with database.transaction() as session:
        for job_id in (bad, good):
            job_store.cancel_job(session, job_id)
    tried: list[uuid.UUID] = []
    go_on = job_store.continue_change

    def breaks(session: Session, job_id: uuid.UUID) -> int:
        tried.append(job_id)
        if job_id == bad:
            raise ValueError("a row that no code can use")
        return go_on(session, job_id)

    monkeypatch.setattr(job_store, "continue_change", breaks)
    changer = JobChanger(database)
    while changer.round() == 0:
        pass
    assert statuses(database, good) == {"cancelled": 2 * PAGE}
    assert tried.count(bad) == 1, "it is put aside for a while"
    changer._changes.wait(bad, 0)
    monkeypatch.setattr(job_store, "continue_change", go_on)
    while changer.round() == 0:
        pass
    assert statuses(database, bad) == {"cancelled": 2 * PAGE}
