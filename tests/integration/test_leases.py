"""Claiming, holding, recording and taking back items: on SQLite and on PostgreSQL."""

import threading
import uuid
from datetime import timedelta

import sqlalchemy as sa

from shared import job_store
from shared.database import Database, now
from shared.job_store import Settlement, SettlementState
from shared.jobs import ItemKind, JobStatus
from shared.models import Item
from tests.integration.stored_jobs import (
    LEASE_S,
    assert_counters_match_rows,
    claim,
    expire_leases,
    finish,
    item_ids,
    new_job,
    read,
)


def test_a_claimed_item_can_t_be_claimed_again(database: Database) -> None:
    job_id = new_job(database, 5)
    first = claim(database, job_id, "w1")
    assert [one.attempt for one in first] == [1] * 5
    assert claim(database, job_id, "w2") == []
    assert read(database, job_id).status is JobStatus.RUNNING
    assert_counters_match_rows(database, job_id)


def test_workers_that_claim_at_once_get_different_items(database: Database) -> None:
    job_id = new_job(database, 60)
    ids = item_ids(database, job_id)
    taken: list[uuid.UUID] = []
    lock = threading.Lock()

    def work(owner: str) -> None:
        for start in range(0, 60, 10):
            with database.transaction() as session:
                mine = job_store.claim_many(
                    session, ids[start : start + 10], job_ids=[job_id], owner=owner, lease_s=9
                ).claims()
            with lock:
                taken.extend(one.item_id for one in mine)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
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


def test_a_result_that_is_there_twice_is_recorded_and_counted_once(database: Database) -> None:
    job_id = new_job(database, 2)
    first, second = claim(database, job_id)
    states = finish(
        database,
        [
            Settlement(claim=first, result_key="jobs/first.png", width=10, height=10),
            Settlement(claim=first, result_key="jobs/again.png", width=10, height=10),
            Settlement(claim=second, result_key="jobs/second.png", width=10, height=10),
        ],
    )
    assert states == [SettlementState.RECORDED, SettlementState.STALE, SettlementState.RECORDED]
    job = read(database, job_id)
    assert (job.succeeded, job.running, job.pixels) == (2, 0, 200)
    assert_counters_match_rows(database, job_id)
    with database.transaction() as session:
        assert session.get_one(Item, first.item_id).result_key == "jobs/first.png"
        [used] = job_store.usage_of(session, [job.api_key_id])
    assert (used.images, used.pixels) == (2, 200)


def test_a_lost_lease_leaves_the_other_results_of_its_batch_alone(database: Database) -> None:
    job_id = new_job(database, 3)
    good, lost, also_good = claim(database, job_id)
    with database.transaction() as session:  # another worker has it
        item = session.get_one(Item, lost.item_id)
        item.lease_owner, item.attempts = "other", 2
    states = finish(
        database, [Settlement(claim=one, result_key="k") for one in (good, lost, also_good)]
    )
    assert states == [SettlementState.RECORDED, SettlementState.STALE, SettlementState.RECORDED]
    job = read(database, job_id)
    assert (job.succeeded, job.running, job.status) == (2, 1, JobStatus.RUNNING)
    assert_counters_match_rows(database, job_id)
    with database.transaction() as session:
        item = session.get_one(Item, lost.item_id)
        [used] = job_store.usage_of(session, [job.api_key_id])
    assert (item.lease_owner, item.attempts, item.result_key) == ("other", 2, None)
    assert used.images == 2


def test_a_result_reads_back_as_it_was_recorded(database: Database) -> None:
    """On PostgreSQL the rows travel as one JSON text."""
    job_id = new_job(database, 2)
    full, empty = claim(database, job_id)
    outputs = [{"name": "ä 'b' \\ \"c\".png", "unmet": ["größer", None], "bytes": 2**33}]
    finish(
        database,
        [
            Settlement(
                claim=full,
                result_key="jobs/schön 'x' \\ \"y\" \U0001f600.png",
                width=12_000,
                height=9_000,
                input_bytes=2**40 + 1,
                output_bytes=2**33,
                result_crc32=2**32 - 1,
                timings_ms={"fetch": 0.1234, "predict": 1e-3},
                outputs=outputs,
                review_reasons=["soft", "colours"],
                matte_model="a+b",
                fingerprint="f" * 64,
                reused=True,
            ),
            Settlement(claim=empty, error_code="x", error_detail="line\nline\t\u2028"),
        ],
    )
    with database.transaction() as session:
        one, other = (session.get_one(Item, claimed.item_id) for claimed in (full, empty))
    assert one.result_key == "jobs/schön 'x' \\ \"y\" \U0001f600.png"
    assert (one.width, one.height, one.input_bytes) == (12_000, 9_000, 2**40 + 1)
    assert (one.output_bytes, one.result_crc32) == (2**33, 2**32 - 1)
    assert one.timings_ms == {"fetch": 0.123, "predict": 0.001}
    assert (one.outputs, one.review_reasons) == (outputs, ["soft", "colours"])
    assert (one.needs_review, one.reused, one.kind) == (True, True, ItemKind.PHOTO)
    assert (one.matte_model, one.fingerprint) == ("a+b", "f" * 64)
    assert one.finished_at is not None
    assert one.finished_at >= full.claimed_at
    assert (other.error_code, other.error_detail) == ("x", "line\nline\t\u2028")
    assert (other.outputs, other.result_key, other.measured, other.clip) == (None,) * 4
    assert (other.needs_review, other.lease_owner, other.lease_expires_at) == (False, None, None)


def test_a_temporary_error_puts_the_item_back(database: Database) -> None:
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


def test_a_late_worker_cannot_overwrite_another_s_result(database: Database) -> None:
    job_id = new_job(database, 1)
    (late,) = claim(database, job_id, "late")
    expire_leases(database)
    with database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=3) == 1
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


def test_a_renewed_lease_does_not_expire(database: Database) -> None:
    job_id = new_job(database, 2)
    first, _second = claim(database, job_id, "w1")
    expire_leases(database)
    with database.transaction() as session:
        job_store.renew_leases(session, [first.item_id], owner="w1", lease_s=LEASE_S)
        assert job_store.release_expired_leases(session, max_attempts=3) == 1
    assert_counters_match_rows(database, job_id)


def test_an_item_whose_workers_keep_dying_fails_at_last(database: Database) -> None:
    job_id = new_job(database, 1)
    for _ in range(2):
        assert len(claim(database, job_id)) == 1
        expire_leases(database)
        with database.transaction() as session:
            job_store.release_expired_leases(session, max_attempts=2)
    job = read(database, job_id)
    assert (job.failed, job.status) == (1, JobStatus.FINISHED)
    assert claim(database, job_id) == []
    assert_counters_match_rows(database, job_id)


def test_an_image_whose_workers_die_becomes_a_suspect_runs_alone_and_then_fails(
    database: Database,
) -> None:
    job_id = new_job(database, 1)
    for deaths in range(4):
        with database.transaction() as session:
            alone = job_store.must_run_alone(session, item_ids(database, job_id))
        assert len(alone) == (deaths >= 2)
        if alone:
            assert claim(database, job_id) == [], "not with others"
        [held] = claim(database, job_id, alone=bool(alone))
        assert held.suspect == (deaths > 0)
        expire_leases(database)
        with database.transaction() as session:
            job_store.release_expired_leases(session, max_attempts=4)
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
        job_store.release_expired_leases(session, max_attempts=4)
    assert read(database, job_id).suspect
    assert [one.suspect for one in claim(database, job_id)] == [True]


def test_a_silent_worker_is_not_live(database: Database) -> None:
    with database.transaction() as session:
        job_store.register_worker(session, "w1", {"model": "m"})
        assert [one.id for one in job_store.live_workers(session, stale_s=15)] == ["w1"]
        assert list(job_store.live_workers(session, stale_s=-1)) == []
        job_store.beat(session, "w1", state="stopping")
        assert list(job_store.live_workers(session, stale_s=15)) == []
