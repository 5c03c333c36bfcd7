"""Batches with items of many jobs: how long they hold the jobs, and that nothing is mixed up."""

import threading
import uuid

import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.job_store import Settlement
from shared.models import Delivery, Usage
from shared.webhooks import Event
from tests.integration.stored_jobs import (
    LEASE_S,
    assert_counters_match_rows,
    claim,
    finish,
    item_ids,
    new_job,
    new_key,
    read,
)


def statements_of(database: Database, item_jobs: dict[uuid.UUID, uuid.UUID]) -> list[str]:
    """The statements that claim these items and record them."""
    sent: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        sent.append(" ".join(statement.split()))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.transaction() as session:
            claimed = job_store.claim_many(
                session, list(item_jobs), job_ids=item_jobs.values(), owner="w", lease_s=LEASE_S
            )
        claims = claimed.claims()
        assert [one.item_id for one in claims] == list(item_jobs)
        finish(database, [Settlement(claim=one, result_key="k") for one in claims])
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
    return sent


def test_a_batch_of_many_jobs_takes_few_statements(migrated_postgresql: Database) -> None:
    """Other workers wait for the jobs from the first statement of a transaction to its end."""
    database = migrated_postgresql
    jobs = [new_job(database, 12) for _ in range(6)]
    ids = {job: item_ids(database, job) for job in jobs}
    statements_of(database, {ids[job][0]: job for job in jobs})  # their jobs begin
    sent = statements_of(database, {one: job for job in jobs for one in ids[job][1:3]})
    assert [statement.split()[0] for statement in sent] == [
        "SELECT",  # locks the jobs
        "WITH",  # claims and counts
        "SELECT",  # locks the jobs
        "WITH",  # records
        "SELECT",  # the webhooks that are told of progress
        "WITH",  # counts, and adds to the usage
    ]
    for job in jobs:
        assert (read(database, job).succeeded, read(database, job).queued) == (3, 9)
        assert_counters_match_rows(database, job)


def test_each_webhook_is_told_of_the_progress_of_its_own_jobs(database: Database) -> None:
    keys = [new_key(database), new_key(database)]
    jobs = [new_job(database, 4, key) for key in (*keys, keys[0])]
    with database.transaction() as session:
        all_of_first, only_second, only_third, rarely = (
            job_store.create_webhook(
                session,
                api_key_id=key,
                url="https://example.com/",
                events=[Event.JOB_FINISHED],
                progress_percent=percent,
                secret="whsec_" + "A" * 32,
                job_id=job_id,
            ).id
            for key, job_id, percent in (
                (keys[0], None, 25),
                (keys[1], jobs[1], 25),
                (keys[0], jobs[2], 25),
                (keys[0], None, 90),
            )
        )
    firsts = [claim(database, job)[0] for job in jobs]
    finish(database, [Settlement(claim=one, result_key="k") for one in firsts])
    with database.transaction() as session:
        statement = sa.select(Delivery.webhook_id, Delivery.job_id)
        told = session.execute(statement.where(Delivery.job_id.in_(jobs))).all()
    assert sorted(tuple(row) for row in told) == sorted(
        [
            (all_of_first, jobs[0]),
            (all_of_first, jobs[2]),
            (only_second, jobs[1]),
            (only_third, jobs[2]),
        ]
    )
    assert rarely not in {row.webhook_id for row in told}


def test_workers_that_record_the_same_jobs_at_once_lose_no_count(database: Database) -> None:
    """Also while somebody pauses and resumes one of them."""
    key = new_key(database)
    jobs = [new_job(database, 40, key) for _ in range(3)]
    pairs = {one: job for job in jobs for one in item_ids(database, job)}
    order = [
        one for row in zip(*(item_ids(database, job) for job in jobs), strict=True) for one in row
    ]
    stop = threading.Event()
    failed: list[BaseException] = []

    def work(owner: str, mine: list[uuid.UUID]) -> None:
        try:
            left = list(mine)
            while left:  # a paused job hands out nothing; its items are asked for again
                some = left[:8]
                with database.transaction() as session:
                    claims = job_store.claim_many(
                        session, some, job_ids={pairs[i] for i in some}, owner=owner, lease_s=60
                    ).claims()
                finish(
                    database,
                    [
                        Settlement(
                            claim=one, result_key="k", width=2, height=3, timings_ms={"predict": 1}
                        )
                        for one in claims
                    ],
                )
                done = {one.item_id for one in claims}
                left = [i for i in left if i not in done]
        except BaseException as error:
            failed.append(error)
            raise

    def pause() -> None:
        while not stop.is_set():
            with database.transaction() as session:
                job_store.pause_job(session, jobs[1])
            with database.transaction() as session:
                job_store.resume_job(session, jobs[1])

    workers = [threading.Thread(target=work, args=(f"w{n}", order[n::3])) for n in range(3)]
    pausing = threading.Thread(target=pause)
    for thread in (*workers, pausing):
        thread.start()
    for thread in workers:
        thread.join(120)
    stop.set()
    pausing.join(60)
    assert not failed
    for job in jobs:
        assert (read(database, job).succeeded, read(database, job).pixels) == (40, 240)
        assert_counters_match_rows(database, job)
    with database.transaction() as session:
        used = session.scalars(sa.select(Usage).where(Usage.api_key_id == key)).one()
        assert (used.images, used.pixels, used.device_ms) == (120, 720, 120.0)
