"""Two transactions that meet at the same rows, on PostgreSQL: the second one waits, and looks
again.
"""

import threading
import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database, Session, now
from shared.errors import ConflictError, JobNotFoundError, ResultNotReadyError
from shared.job_store import NewItem, SeenObject, Settlement
from shared.job_store.api_keys import lock_api_key
from shared.job_store.locks import lock_jobs
from shared.job_store.webhooks import lock_webhooks
from shared.jobs import ItemStatus, JobStatus, Verdict
from shared.models import Delivery, Item, Job, Watch, Webhook
from shared.options import Options
from shared.webhooks import DeliveryStatus, DisabledReason, Event, Outcome, new_secret
from tests.integration.stored_jobs import (
    assert_counters_match_rows,
    claim,
    finish,
    item_ids,
    limit_images,
    new_job,
    new_key,
    read,
)
from tests.waiting import eventually

Step = Callable[[Session], object]


@pytest.fixture
def store(migrated_postgresql: Database) -> Database:
    return migrated_postgresql


def meet(store: Database, first: Step, second: Step, then: Step | None = None) -> object:
    """Let `first` take its locks, start `second` in another transaction, and when that waits for a
    lock, let the first one do `then` and commit. Returns what `second` returned or raised.
    """
    came: list[object] = []

    def other() -> None:
        try:
            with store.transaction() as session:
                came.append(second(session))
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=other)
    with store.transaction() as session:
        first(session)
        thread.start()
        eventually(lambda: _somebody_waits(store), "the second transaction to wait for a lock")
        if then is not None:
            then(session)
    thread.join(180)
    assert len(came) == 1
    return came[0]


def _somebody_waits(store: Database) -> bool:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with store.transaction() as session:
        return bool(session.scalar(sa.text(f"{waits} AND datname = current_database()")))


def succeeded(store: Database) -> tuple[uuid.UUID, uuid.UUID]:
    """A finished job with one succeeded image; the ids of both."""
    job_id = new_job(store, 1)
    finish(store, [Settlement(claim=one, result_key="k") for one in claim(store, job_id)])
    return job_id, item_ids(store, job_id)[0]


def review(item_id: uuid.UUID, key: uuid.UUID, verdict: Verdict | None) -> Step:
    """What the request does: it reads the item and then says what the reviewer said."""

    def step(session: Session) -> object:
        found = job_store.get_item(session, item_id, api_key_id=key)
        assert found is not None
        return job_store.record_verdict(session, found[0], verdict=verdict, note=None)

    return step


def test_of_two_verdicts_at_once_the_later_one_replaces_the_other(store: Database) -> None:
    job_id, item_id = succeeded(store)
    key = read(store, job_id).api_key_id
    meet(store, review(item_id, key, Verdict.ACCEPT), review(item_id, key, Verdict.REJECT))
    job = read(store, job_id)
    assert (job.accepted, job.rejected) == (0, 1)
    meet(store, review(item_id, key, None), review(item_id, key, Verdict.REJECT))
    job = read(store, job_id)
    assert (job.accepted, job.rejected) == (0, 1)
    with store.transaction() as session:
        assert session.get_one(Item, item_id).verdict is Verdict.REJECT


def test_a_result_that_is_no_more_gets_no_verdict(store: Database) -> None:
    job_id, item_id = succeeded(store)
    key = read(store, job_id).api_key_id

    def reopen(session: Session) -> None:
        lock_jobs(session, [job_id])
        session.get_one(Item, item_id).status = ItemStatus.QUEUED
        session.flush()

    error = meet(store, reopen, review(item_id, key, Verdict.ACCEPT))
    assert isinstance(error, ResultNotReadyError)
    assert read(store, job_id).accepted == 0


def test_a_job_that_is_deleted_meanwhile_is_not_tried_again(store: Database) -> None:
    job_id = new_job(store, 1)
    claims = claim(store, job_id)
    finish(store, [Settlement(claim=one, error_code="x", error_detail="x") for one in claims])
    error = meet(
        store,
        lambda session: job_store.delete_job(session, job_id),
        lambda session: job_store.retry_failed(session, job_id),
    )
    assert isinstance(error, JobNotFoundError)
    assert read(store, job_id).queued == 0


def new_watch(store: Database, key: uuid.UUID) -> uuid.UUID:
    with store.transaction() as session:
        watch = job_store.create_watch(
            session,
            api_key_id=key,
            prefix="s3://m/p/",
            options=Options().model_dump(mode="json"),
            priority=5,
            labels={},
            every_s=60,
            existing=True,
            ascending=False,
            limit=9,
        )
        return watch.id


def page(watch_id: uuid.UUID, number: int) -> Callable[[Session], Job]:
    """Record a page with one new object; returns the job that got its image."""

    def step(session: Session) -> Job:
        watch = session.get_one(Watch, watch_id)
        key = f"p/{number}.jpg"
        item = NewItem(name=f"{number}.jpg", source=f"s3://m/{key}")
        seen = [SeenObject(key=key, etag="e", item=item)]
        assert job_store.add_watched_page(
            session, watch, seen, last_key=key, is_last=False, max_objects=99
        )
        assert watch.job_id is not None
        return session.get_one(Job, watch.job_id)

    return step


def test_a_look_puts_no_image_into_a_job_that_is_cancelled_meanwhile(store: Database) -> None:
    watch_id = new_watch(store, new_key(store))
    with store.transaction() as session:
        cancelled = page(watch_id, 1)(session).id
    other = meet(store, lambda session: job_store.cancel_job(session, cancelled), page(watch_id, 2))
    assert isinstance(other, Job)
    assert other.id != cancelled
    assert (read(store, cancelled).total, read(store, cancelled).queued) == (1, 0)
    assert (read(store, other.id).total, read(store, other.id).queued) == (1, 1)
    assert_counters_match_rows(store, cancelled)
    assert len(claim(store, other.id)) == 1


def test_a_watch_that_is_paused_meanwhile_ends_a_cancelled_job_once(store: Database) -> None:
    watch_id = new_watch(store, new_key(store))
    with store.transaction() as session:
        job_id = page(watch_id, 1)(session).id
    meet(
        store,
        lambda session: job_store.cancel_job(session, job_id),
        lambda session: job_store.pause_watch(session, session.get_one(Watch, watch_id)),
    )
    job = read(store, job_id)
    assert (job.status, job.expanded_at) == (JobStatus.CANCELLED, job.finished_at)


def test_a_look_and_a_change_of_its_job_lock_the_job_before_the_key(store: Database) -> None:
    key = new_key(store)
    limit_images(store, key, 10)
    watch_id = new_watch(store, key)
    with store.transaction() as session:
        job_id = page(watch_id, 1)(session).id
    same = meet(
        store,
        lambda session: lock_jobs(session, [job_id]),
        page(watch_id, 2),
        then=lambda session: job_store.take_from_quota(session, key, 1),
    )
    assert isinstance(same, Job), same
    assert (same.id, read(store, job_id).total) == (job_id, 2)


def test_a_batch_that_is_recorded_while_the_quota_is_read_counts(store: Database) -> None:
    key = new_key(store)
    limit_images(store, key, 5)
    claims = claim(store, new_job(store, 3, key))
    recorded: list[object] = []

    def record(*call: object) -> None:
        if "FROM usage" in str(call[2]) and not recorded:
            recorded.append(True)
            finish(store, [Settlement(claim=one, result_key="k") for one in claims])

    sa.event.listen(store.engine, "after_cursor_execute", record)
    try:
        with store.transaction() as session:
            assert job_store.images_left(session, key) == 2
    finally:
        sa.event.remove(store.engine, "after_cursor_execute", record)
    assert recorded
    with store.transaction() as session:
        assert job_store.images_left(session, key) == 2


def test_of_two_submissions_one_gets_the_last_image(store: Database) -> None:
    key = new_key(store)
    limit_images(store, key, 1)

    def submit(session: Session) -> object:
        job = job_store.create_job(
            session, api_key_id=key, options={}, priority=5, labels={}, source={"kind": "keys"}
        )
        return job_store.add_items(session, job.id, [NewItem(name="1.jpg", source="s3://p/1.jpg")])

    error = meet(store, submit, submit)
    assert getattr(error, "code", None) == "quota-exceeded", error


def test_who_only_reads_a_quota_or_has_none_waits_for_nobody(store: Database) -> None:
    limited, unlimited = new_key(store), new_key(store)
    limit_images(store, limited, 5)
    with store.transaction() as first, store.transaction() as second:
        for key in (limited, unlimited):
            lock_api_key(first, key)
        second.execute(sa.text("SET LOCAL lock_timeout = '1ms'"))
        assert job_store.images_left(second, limited) == 5
        job_store.take_from_quota(second, unlimited, 1_000_000)


def new_delivery(store: Database, key: uuid.UUID) -> uuid.UUID:
    with store.transaction() as session:
        webhook = job_store.create_webhook(
            session,
            api_key_id=key,
            url="https://shop.example/hook",
            events=[Event.JOB_FINISHED],
            progress_percent=None,
            secret=new_secret(),
        )
        return job_store.announce_test(session, webhook).id


def attempt(session: Session, delivery_id: uuid.UUID) -> job_store.Attempt:
    """What a process holds that has claimed the delivery."""
    delivery = session.get_one(Delivery, delivery_id)
    return job_store.Attempt(
        delivery_id=delivery_id,
        webhook_id=delivery.webhook_id,
        api_key_id=delivery.api_key_id,
        event=delivery.event,
        url="https://shop.example/hook",
        body=b"{}",
        secrets=[],
        number=0,
        retry_step=0,
    )


DELIVERED = job_store.AttemptResult(outcome=Outcome.DELIVERED, http_status=204, duration_ms=1.0)


def test_a_delivery_that_ends_while_it_is_asked_for_again_is_sent_again(store: Database) -> None:
    key = new_key(store)
    delivery_id = new_delivery(store, key)

    def again(session: Session) -> None:
        found = job_store.get_delivery(session, delivery_id, api_key_id=key)
        assert found is not None
        assert job_store.get_webhook(session, found.webhook_id, api_key_id=key) is not None
        job_store.redeliver(session, delivery_id)

    meet(
        store,
        lambda session: job_store.record_attempt(session, attempt(session, delivery_id), DELIVERED),
        again,
    )
    with store.transaction() as session:
        delivery = session.get_one(Delivery, delivery_id)
        assert (delivery.status, delivery.settled_at) == (DeliveryStatus.PENDING, None)


@pytest.mark.parametrize("how", ["deleted webhook", "old deliveries"])
def test_deliveries_are_removed_after_their_webhook_is_locked(store: Database, how: str) -> None:
    """An attempt locks the webhook, and then its delivery."""
    delivery_id = new_delivery(store, new_key(store))
    with store.transaction() as session:
        session.execute(sa.delete(Delivery).where(Delivery.id != delivery_id))
        session.execute(sa.delete(Webhook).where(~Webhook.id.in_(sa.select(Delivery.webhook_id))))
        webhook = session.get_one(Webhook, session.get_one(Delivery, delivery_id).webhook_id)
        webhook_id = webhook.id
        if how == "deleted webhook":
            webhook.disabled_at, webhook.disabled_reason = now(session), DisabledReason.DELETED
        else:
            webhook.job_id = uuid.uuid4()

    def remove(session: Session) -> int:
        if how == "deleted webhook":
            return job_store.remove_deleted_webhooks(session)
        return job_store.forget_deliveries(session, older_than_s=-60, limit=10)

    removed = meet(
        store,
        lambda session: lock_webhooks(session, [webhook_id]),
        remove,
        then=lambda session: session.get(Delivery, delivery_id, with_for_update=True),
    )
    assert isinstance(removed, int), removed
    assert removed >= 1
    with store.transaction() as session:
        assert session.get(Webhook, webhook_id) is None


def test_two_watches_at_once_do_not_pass_the_limit(store: Database) -> None:
    key = new_key(store)

    def create(session: Session) -> object:
        return job_store.create_watch(
            session, api_key_id=key, prefix="s3://m/", options={}, priority=5, labels={},
            every_s=60, existing=True, ascending=False, limit=1,
        )  # fmt: skip

    assert isinstance(meet(store, create, create), ConflictError)
