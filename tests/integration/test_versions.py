"""Versions of a result: asked for, made, failed, restored and removed, on both databases."""

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.errors import (
    ItemNotFoundError,
    MatteChangedError,
    QuotaExceededError,
    RedoPendingError,
    ResultNotReadyError,
    VersionNotFoundError,
)
from shared.job_store import NewVersion, Settlement, versions
from shared.jobs import ItemStatus, JobStatus, MadeBy, Verdict
from shared.models import Delivery, Item, Job, new_id
from shared.webhooks import Event
from tests.integration.stored_jobs import (
    assert_counters_match_rows,
    claim,
    expire_leases,
    finish,
    item_ids,
    limit_images,
    new_job,
    new_key,
    read,
)


def finished_job(database: Database, key: uuid.UUID, count: int = 2) -> tuple[uuid.UUID, uuid.UUID]:
    """A finished job, and its first item."""
    job_id = new_job(database, count, key)
    for one in claim(database, job_id):
        settled = Settlement(
            claim=one,
            result_key=f"jobs/{job_id}/results/{one.item_id}.png",
            width=40,
            height=30,
            output_bytes=100,
            review_reasons=("soft",),
            fingerprint=one.item_id.hex,
        )
        finish(database, [settled])
    return job_id, item_ids(database, job_id)[0]


def begin(
    database: Database,
    key: uuid.UUID,
    item_id: uuid.UUID,
    *,
    matte_key: str | None = None,
    instead_of: frozenset[int] | None = None,
    kept: int = 5,
) -> NewVersion:
    new = NewVersion(
        job_id=new_id(),
        item_id=new_id(),
        made_by=MadeBy.BRUSH if matte_key else MadeBy.NETWORK,
        options=None if matte_key else {"erode_px": 2.0},
        matte_key=matte_key,
        instead_of=instead_of,
    )
    with database.transaction() as session:
        job_store.begin_version(session, item_id, new, api_key_id=key, kept=kept)
    return new


def make(database: Database, new: NewVersion, error: str | None = None) -> None:
    [one] = claim(database, new.job_id)
    made = Settlement(
        claim=one,
        result_key=None if error else f"jobs/{new.job_id}/results/{new.item_id}.png",
        error_code=error,
        error_detail=error,
        width=40,
        height=30,
        output_bytes=70,
    )
    finish(database, [made])


def item_of(database: Database, item_id: uuid.UUID) -> Item:
    with database.transaction() as session:
        return session.get_one(Item, item_id)


def images_used(database: Database, key: uuid.UUID) -> int:
    with database.transaction() as session:
        return sum(one.images for one in job_store.usage_of(session, [key]))


def numbers(database: Database, item_id: uuid.UUID) -> list[tuple[int, str]]:
    with database.transaction() as session:
        found = job_store.list_versions(session, session.get_one(Item, item_id))
        return [(one.number, one.result.status.value) for one in found]


def test_a_new_version_takes_the_place_of_the_result_once_it_is_made(database: Database) -> None:
    key = new_key(database)
    job_id, item_id = finished_job(database, key)
    before = read(database, job_id)
    with database.transaction() as session:
        job_store.record_verdict(
            session, session.get_one(Item, item_id), verdict=Verdict.REJECT, note="hair"
        )
    new = begin(database, key, item_id)
    waiting = item_of(database, item_id)
    assert (waiting.version, waiting.status) == (1, ItemStatus.SUCCEEDED)
    assert waiting.redo == {"number": 2, "made_by": "network", "status": "waiting"}
    make(database, new)
    item = item_of(database, item_id)
    assert (item.version, item.redo, item.verdict) == (2, None, None)
    assert item.result_key == f"jobs/{new.job_id}/results/{new.item_id}.png"
    assert item.options == {"erode_px": 2.0}
    assert (item.review_reasons, item.fingerprint) == (["redone"], None)
    job = read(database, job_id)
    assert (job.status, job.finished_at) == (JobStatus.FINISHED, before.finished_at)
    assert (job.needs_review, job.rejected, job.output_bytes) == (2, 0, 170)
    assert_counters_match_rows(database, job_id)
    assert images_used(database, key) == 3
    assert numbers(database, item_id) == [(1, "succeeded"), (2, "succeeded")]


def test_rejected_images_are_made_again_once_and_ask_for_a_review(database: Database) -> None:
    key = new_key(database)
    job_id, first = finished_job(database, key, 4)
    ids = item_ids(database, job_id)
    reject(database, ids[:3])
    begin(database, key, ids[1])  # is being made already
    make(database, begin(database, key, ids[2]), error="x")  # failed, so it can be made again
    begun, left = redo(database, key, job_id)
    assert (len(begun), left) == (2, 0)
    assert redo(database, key, job_id) == ([], 0)
    for made in begun:
        [one] = claim(database, made)
        finish(database, [Settlement(claim=one, result_key=f"jobs/{made}.png")])
    item = item_of(database, first)
    assert (item.version, item.verdict, item.options) == (2, None, {"erode_px": 1.0})
    assert (item.needs_review, item.review_reasons) == (True, ["redone"])
    assert numbers(database, ids[2]) == [(1, "succeeded"), (2, "failed"), (3, "succeeded")]
    job = read(database, job_id)
    assert (job.rejected, job.needs_review) == (1, 4)
    assert_counters_match_rows(database, job_id)


def test_rejected_images_are_made_again_only_if_all_fit_into_the_quota(database: Database) -> None:
    key = new_key(database)
    job_id, _ = finished_job(database, key, 4)
    ids = item_ids(database, job_id)
    reject(database, ids[:3])
    limit_images(database, key, 6)  # 4 are used
    with pytest.raises(QuotaExceededError):
        redo(database, key, job_id)
    assert item_of(database, ids[0]).redo is None
    limit_images(database, key, 7)
    assert len(redo(database, key, job_id)[0]) == 3


def test_more_rejected_images_than_one_request_makes_again_are_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MOST_REDONE", 2)
    key = new_key(database)
    job_id, _ = finished_job(database, key, 5)
    reject(database, item_ids(database, job_id))
    sizes = [(len(begun), left) for begun, left in (redo(database, key, job_id) for _ in "abc")]
    assert sizes == [(2, 2), (2, 1), (1, 0)]


def reject(database: Database, ids: list[uuid.UUID]) -> None:
    with database.transaction() as session:
        for one in ids:
            item = session.get_one(Item, one)
            job_store.record_verdict(session, item, verdict=Verdict.REJECT, note=None)


def redo(database: Database, key: uuid.UUID, job_id: uuid.UUID) -> tuple[list[uuid.UUID], int]:
    def made(_item: Item, options: dict[str, Any]) -> NewVersion:
        changed = {**options, "erode_px": 1.0}
        return NewVersion(
            job_id=new_id(), item_id=new_id(), made_by=MadeBy.NETWORK, options=changed
        )

    with database.transaction() as session:
        return job_store.redo_rejected(session, job_id, made, api_key_id=key, kept=5)


def test_a_mended_matte_counts_for_no_quota(database: Database) -> None:
    key = new_key(database)
    _, item_id = finished_job(database, key)
    new = begin(database, key, item_id, matte_key="jobs/x/matte.png")
    [one] = claim(database, new.job_id)
    assert one.matte_key == "jobs/x/matte.png"
    finish(database, [Settlement(claim=one, result_key="jobs/x.png")])
    assert item_of(database, item_id).version == 2
    assert images_used(database, key) == 2


def test_a_version_that_fails_leaves_the_result_in_place(database: Database) -> None:
    key = new_key(database)
    job_id, item_id = finished_job(database, key)
    make(database, begin(database, key, item_id), error="source-not-found")
    item = item_of(database, item_id)
    assert (item.version, item.status, item.error_code) == (1, ItemStatus.SUCCEEDED, None)
    assert item.redo == {
        "number": 2,
        "made_by": "network",
        "status": "failed",
        "code": "source-not-found",
        "detail": "source-not-found",
    }
    assert read(database, job_id).failed == 0
    make(database, begin(database, key, item_id))
    assert item_of(database, item_id).version == 3


def test_a_version_whose_workers_die_fails_too(database: Database) -> None:
    key = new_key(database)
    _, item_id = finished_job(database, key)
    new = begin(database, key, item_id)
    claim(database, new.job_id)
    expire_leases(database)
    with database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=1) == 1
    redo = item_of(database, item_id).redo
    assert redo is not None
    assert (redo["status"], redo["code"]) == ("failed", "attempts-exhausted")


def test_a_killed_worker_s_version_is_made_by_the_next_and_a_late_record_is_refused(
    database: Database,
) -> None:
    key = new_key(database)
    _, item_id = finished_job(database, key)
    new = begin(database, key, item_id)
    [late] = claim(database, new.job_id)
    expire_leases(database)
    with database.transaction() as session:
        job_store.release_expired_leases(session, max_attempts=4)
    make(database, new)
    [state] = finish(database, [Settlement(claim=late, result_key="jobs/late.png")])
    assert state is job_store.SettlementState.STALE
    assert item_of(database, item_id).result_key == f"jobs/{new.job_id}/results/{new.item_id}.png"


def test_one_version_is_made_at_a_time_and_only_of_what_the_caller_saw(database: Database) -> None:
    key = new_key(database)
    _, item_id = finished_job(database, key)
    new = begin(database, key, item_id, instead_of=frozenset({1}))
    with pytest.raises(RedoPendingError):
        begin(database, key, item_id)
    make(database, new)
    with pytest.raises(MatteChangedError):
        begin(database, key, item_id, instead_of=frozenset({1}))
    begin(database, key, item_id, instead_of=frozenset({2}))


def test_only_results_of_the_own_key_have_versions(database: Database) -> None:
    key, other = new_key(database), new_key(database, "other")
    _, item_id = finished_job(database, key)
    new = begin(database, key, item_id)
    with pytest.raises(ItemNotFoundError):
        begin(database, other, item_id)
    with pytest.raises(ItemNotFoundError):  # what makes a version is nobody's item
        begin(database, key, new.item_id)
    with pytest.raises(ItemNotFoundError), database.transaction() as session:
        job_store.restore_version(session, item_id, 1, api_key_id=other)
    waiting = item_ids(database, new_job(database, 1, key))[0]
    with pytest.raises(ResultNotReadyError):
        begin(database, key, waiting)


def test_nobody_sees_the_job_that_makes_a_version(database: Database) -> None:
    key = new_key(database)
    with database.transaction() as session:
        job_store.create_webhook(
            session,
            api_key_id=key,
            url="https://example.com/hook",
            events=list(Event),
            progress_percent=1,
            secret="whsec_" + "A" * 32,
        )
    job_id, item_id = finished_job(database, key)
    with database.transaction() as session:
        told = session.scalar(sa.select(sa.func.count()).select_from(Delivery))
    new = begin(database, key, item_id)
    with database.transaction() as session:
        listed = job_store.list_jobs(session, api_key_id=key, before=None, limit=10)
        assert [job.id for job in listed] == [job_id]
        assert job_store.get_job(session, new.job_id, api_key_id=key) is None
        assert job_store.get_item(session, new.item_id, api_key_id=key) is None
    make(database, new)
    with database.transaction() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Delivery)) == told


def test_an_earlier_version_is_shown_again(database: Database) -> None:
    key = new_key(database)
    job_id, item_id = finished_job(database, key)
    make(database, begin(database, key, item_id))
    make(database, begin(database, key, item_id), error="not-an-image")
    with database.transaction() as session:
        item, _ = job_store.restore_version(session, item_id, 1, api_key_id=key)
        assert (item.version, item.redo, item.needs_review) == (1, None, True)
        assert item.result_key == f"jobs/{job_id}/results/{item_id}.png"
        assert item.fingerprint == item_id.hex
    assert read(database, job_id).needs_review == 2
    assert read(database, job_id).output_bytes == 200
    for number in (3, 4):
        with pytest.raises(VersionNotFoundError), database.transaction() as session:
            job_store.restore_version(session, item_id, number, api_key_id=key)
    make(database, begin(database, key, item_id))
    assert item_of(database, item_id).version == 4


def test_the_first_the_shown_and_the_last_versions_are_kept(database: Database) -> None:
    key = new_key(database)
    _, item_id = finished_job(database, key)
    for _ in range(2):
        make(database, begin(database, key, item_id, kept=2))
    with database.transaction() as session:
        job_store.restore_version(session, item_id, 2, api_key_id=key)
    for _ in range(3):
        make(database, begin(database, key, item_id, kept=2), error="not-an-image")
    assert [number for number, _ in numbers(database, item_id)] == [1, 2, 4, 5, 6]
    with database.transaction() as session:
        deleted = job_store.deleted_jobs(session, limit=10)
        assert len(deleted.removable) == 1


def test_versions_end_with_the_job_of_their_item(database: Database) -> None:
    key = new_key(database)
    job_id, item_id = finished_job(database, key)
    make(database, begin(database, key, item_id))
    new = begin(database, key, item_id)
    [held] = claim(database, new.job_id)
    with database.transaction() as session:
        assert job_store.expire_jobs(session, older_than_s=-60, limit=10) == 1
    with database.transaction() as session:
        stopped = job_store.stop_versions(session, job_id, limit=10)
        assert stopped.in_use
        assert len(stopped.removable) == 2
    finish(database, [Settlement(claim=held, result_key="jobs/late.png")])
    assert item_of(database, item_id).version == 2
    with database.transaction() as session:
        stopped = job_store.stop_versions(session, job_id, limit=10)
        assert (stopped.in_use, len(stopped.removable)) == (False, 3)
        assert {session.get_one(Job, one).of_job_id for one in stopped.removable} == {job_id}
