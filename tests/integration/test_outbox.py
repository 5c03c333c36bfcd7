"""Creation of webhook deliveries, and their distribution over threads: on SQLite and on
PostgreSQL.
"""

import json
import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database, now
from shared.job_store import Attempt, AttemptResult, Settlement
from shared.jobs import JobStatus
from shared.models import Delivery, Webhook
from shared.webhooks import DeliveryStatus, Event, Outcome, new_secret
from tests.integration.stored_jobs import claim, finish, new_job, new_key, read

ALL = (Event.JOB_FINISHED, Event.JOB_CANCELLED, Event.JOB_PAUSED)


def new_webhook(database: Database, key: uuid.UUID, **more: Any) -> uuid.UUID:
    values: dict[str, Any] = {"events": ALL, "progress_percent": None, **more}
    with database.transaction() as session:
        return job_store.create_webhook(
            session, api_key_id=key, url="https://x.example/", secret=new_secret(), **values
        ).id


def noted(database: Database, webhook: uuid.UUID) -> list[dict[str, Any]]:
    with database.transaction() as session:
        statement = sa.select(Delivery.body).where(Delivery.webhook_id == webhook)
        return [json.loads(body) for body in session.scalars(statement.order_by(Delivery.id))]


def claimed(database: Database, **more: Any) -> list[Attempt]:
    values: dict[str, Any] = {
        "after": None, "busy": [], "taken": {}, "of_key": 100, "limit": 100, "lease_s": 30.0, **more
    }  # fmt: skip
    with database.transaction() as session:
        return job_store.claim_deliveries(session, **values).attempts


def recorded(database: Database, attempt: Attempt, outcome: Outcome, **more: Any) -> bool:
    with database.transaction() as session:
        result = AttemptResult(outcome=outcome, duration_ms=1.0, **more)
        return job_store.record_attempt(session, attempt, result)


def announced(database: Database, webhook: uuid.UUID, count: int = 1) -> None:
    with database.transaction() as session:
        for _ in range(count):
            job_store.announce_test(session, session.get_one(Webhook, webhook))


def test_no_delivery_is_due_before_retry_after(database: Database) -> None:
    key = new_key(database)
    busy, other = new_webhook(database, key), new_webhook(database, key)
    announced(database, busy, 2)
    [first] = claimed(database)
    assert recorded(database, first, Outcome.FAILED, retry_s=0.0, quiet_s=3_600)
    announced(database, other)
    assert [one.webhook_id for one in claimed(database)] == [other]
    with database.transaction() as session:
        webhook = session.get_one(Webhook, busy)
        assert webhook.quiet_until is not None
        webhook.quiet_until = now(session)
    [again] = claimed(database)
    assert again.webhook_id == busy
    assert recorded(database, again, Outcome.DELIVERED)
    with database.transaction() as session:
        assert session.get_one(Webhook, busy).quiet_until is None


def test_progress_events_follow_the_requested_steps(database: Database) -> None:
    key = new_key(database)
    coarse = new_webhook(database, key, progress_percent=25)
    fine = new_webhook(database, key, progress_percent=10)
    plain = new_webhook(database, key)
    job_id = new_job(database, 20, key)
    claims = claim(database, job_id)
    for at in range(0, 20, 2):
        finish(database, [Settlement(claim=one, result_key="k") for one in claims[at : at + 2]])
    told = noted(database, coarse)
    assert [one["type"] for one in told] == [*["job.progress"] * 3, "job.finished"]
    assert [one["data"]["progress"] for one in told] == [0.3, 0.5, 0.8, 1.0]
    assert [one["data"]["progress"] for one in noted(database, fine)] == [
        share / 10 for share in range(1, 11)
    ]
    [end] = noted(database, plain)
    assert end["data"]["counts"]["succeeded"] == 20


def test_several_steps_at_once_give_one_event_and_again_after_a_retry(
    database: Database,
) -> None:
    key = new_key(database)
    webhook = new_webhook(database, key, progress_percent=20)
    job_id = new_job(database, 10, key)
    claims = claim(database, job_id)
    failed = [Settlement(claim=one, error_code="not-an-image") for one in claims]
    finish(database, failed[:9])
    finish(database, failed[9:])
    with database.transaction() as session:
        job_store.retry_failed(session, job_id)
    claims = claim(database, job_id)
    for at in (0, 5):
        finish(database, [Settlement(claim=one, result_key="k") for one in claims[at : at + 5]])
    told = [(one["type"], one["data"]["progress"]) for one in noted(database, webhook)]
    assert told == [
        ("job.progress", 0.9),
        ("job.finished", 1.0),
        ("job.progress", 0.5),
        ("job.finished", 1.0),
    ]


def test_jobs_paused_by_failures_and_cancelled_jobs_send_events(database: Database) -> None:
    key = new_key(database)
    webhook = new_webhook(database, key)
    only_end = new_webhook(database, key, events=[Event.JOB_FINISHED])
    other = new_webhook(database, new_key(database))
    job_id = new_job(database, 10, key)
    with database.transaction() as session:
        job = job_store.load_job(session, job_id)
        assert job is not None
        job.failure_share, job.failure_after = 0.5, 4
    claims = claim(database, job_id)
    finish(database, [Settlement(claim=one, error_code="not-an-image") for one in claims[:5]])
    with database.transaction() as session:
        job_store.cancel_job(session, job_id)
        job_store.cancel_job(session, job_id)
    told = noted(database, webhook)
    assert [one["type"] for one in told] == ["job.paused", "job.cancelled"]
    assert told[0]["data"]["error"]["code"] == "too-many-failures"
    assert noted(database, only_end) == noted(database, other) == []


def test_a_rolled_back_transaction_sends_nothing(database: Database) -> None:
    key = new_key(database)
    webhook = new_webhook(database, key)
    job_id = new_job(database, 1, key)

    def crash() -> None:
        with database.transaction() as session:
            job_store.cancel_job(session, job_id)
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        crash()
    assert read(database, job_id).status is JobStatus.ACCEPTED
    assert noted(database, webhook) == []


def test_only_the_latest_attempt_is_recorded(database: Database) -> None:
    webhook = new_webhook(database, new_key(database))
    announced(database, webhook)
    [lost] = claimed(database, lease_s=-1)  # its process was killed, and the lease has expired
    [latest] = claimed(database)
    assert claimed(database) == [], "it is under way"
    assert not recorded(database, lost, Outcome.DELIVERED)
    assert recorded(database, latest, Outcome.DELIVERED)
    assert not recorded(database, latest, Outcome.DELIVERED), "once"
    with database.transaction() as session:
        [delivery] = session.scalars(sa.select(Delivery))
        assert (delivery.status, delivery.attempts, len(delivery.log)) == (
            DeliveryStatus.DELIVERED, 2, 1,
        )  # fmt: skip


def test_no_key_and_no_webhook_gets_more_than_its_share(database: Database) -> None:
    crowd, small = new_key(database), new_key(database)
    many = [new_webhook(database, crowd) for _ in range(6)]
    for webhook in many:
        announced(database, webhook, 3)
    announced(database, new_webhook(database, small), 2)
    first = claimed(database, of_key=4)
    assert Counter(one.api_key_id for one in first) == {crowd: 4, small: 1}
    assert len({one.webhook_id for one in first}) == 5, "one at a time to a webhook"
    busy = [one.webhook_id for one in first]
    taken = Counter(one.api_key_id for one in first)
    assert claimed(database, busy=busy, taken=taken, of_key=4) == []
    recorded(database, first[0], Outcome.DELIVERED)
    taken[crowd] -= 1
    [more] = claimed(database, busy=busy[1:], taken=taken, of_key=4)
    assert more.api_key_id == crowd


def test_webhooks_of_a_revoked_key_get_no_deliveries(database: Database) -> None:
    key = new_key(database)
    announced(database, new_webhook(database, key))
    with database.transaction() as session:
        job_store.revoke_api_key(session, key)
    assert claimed(database) == []


def test_old_deliveries_and_webhooks_of_deleted_jobs_are_deleted(
    database: Database,
) -> None:
    key = new_key(database)
    job_id = new_job(database, 1, key)
    kept, bound = new_webhook(database, key), new_webhook(database, key, job_id=job_id)
    with database.transaction() as session:
        job_store.delete_job(session, job_id)
        assert job_store.remove_items(session, job_id, limit=10) == [1]
        job_store.remove_job(session, job_id)
        assert session.scalar(sa.select(sa.func.count()).select_from(Delivery)) == 2, "yet untold"
        assert job_store.forget_deliveries(session, older_than_s=60, limit=10) == 0
        past = now(session) - timedelta(seconds=120)
        for table in (Delivery, Webhook):
            session.execute(sa.update(table).values(created_at=past))
        assert job_store.forget_deliveries(session, older_than_s=60, limit=10) == 2
        assert list(session.scalars(sa.select(Webhook.id))) == [kept]
    assert bound != kept
