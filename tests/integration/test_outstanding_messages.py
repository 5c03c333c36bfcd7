"""Messages in Redis are not sent again, and their number is bounded, with a real Redis."""

import json
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.job_store import NewItem
from shared.models import Item
from shared.queue import Celery, queue_depth, queue_name
from shared.reconciler import Reconciler
from shared.settings import Settings
from tests.integration.stored_jobs import new_key

ROUND_S = 3_600
DAY_S = 86_400


@pytest.fixture
def redis(queue: Celery) -> Any:
    with queue.connection_for_write() as connection:
        yield connection.default_channel.client  # type: ignore[attr-defined]  # redis-py's


def add_job(
    database: Database,
    images: int,
    *,
    api_key_id: uuid.UUID | None = None,
    model: str | None = None,
    source: str = "s3://b",
) -> uuid.UUID:
    with database.transaction() as session:
        key = api_key_id or job_store.create_api_key(session, "tests")[0].id
        job = job_store.create_job(
            session,
            api_key_id=key,
            options={"model": model} if model else {},
            priority=5,
            labels={},
            source={"kind": "keys"},
        )
        items = [NewItem(name=f"{n}.jpg", source=f"{source}/{n}") for n in range(images)]
        job_store.add_items(session, job.id, items)
        job_store.finish_expansion(session, job.id)
        return job.id


def pass_time(database: Database, seconds: float) -> None:
    """Pretend that all messages were sent this much earlier."""
    with database.transaction() as session:
        for item in session.scalars(sa.select(Item).where(Item.published_at.is_not(None))):
            assert item.published_at is not None
            item.published_at -= timedelta(seconds=seconds)


def one_round(reconciler: Reconciler) -> None:
    reconciler.forget_lost()
    reconciler.publish_open_jobs()


@pytest.mark.parametrize("by_url", [False, True])
@pytest.mark.parametrize("model", [None, "of-no-worker"])
def test_redis_does_not_grow_on_a_day_without_workers(
    database: Database,
    queue: Celery,
    settings: Settings,
    redis: Any,
    model: str | None,
    by_url: bool,
) -> None:
    name = queue_name(model, by_url=by_url)
    add_job(database, 50, model=model, source="https://host.example" if by_url else "s3://b")
    reconciler = Reconciler(database, queue, settings)
    one_round(reconciler)
    before = redis.memory_usage(name), queue_depth(queue, [name])
    for _ in range(DAY_S // ROUND_S):
        pass_time(database, ROUND_S)
        one_round(reconciler)
    after = redis.memory_usage(name), queue_depth(queue, [name])
    assert before == after
    assert after[1] == (36 if by_url else 50), "of URLs three quarters of a worker's places"


def test_only_messages_that_redis_lost_are_sent_again(
    database: Database, queue: Celery, settings: Settings, redis: Any
) -> None:
    add_job(database, 40)
    reconciler = Reconciler(database, queue, settings)
    reconciler.publish_open_jobs()
    redis.rpop("matting:4", 7)
    reconciler.forget_lost()
    assert reconciler.publish_open_jobs() == 0, "a worker may just have taken them"
    pass_time(database, 60)
    reconciler.forget_lost()
    assert reconciler.publish_open_jobs() == 7
    assert queue_depth(queue) == 40


def test_a_key_that_names_many_models_cannot_fill_redis(
    database: Database, queue: Celery, settings: Settings
) -> None:
    key = new_key(database)
    models = [f"of-no-worker-{number}" for number in range(30)]
    for model in models:
        add_job(database, 30, api_key_id=key, model=model)
    reconciler = Reconciler(database, queue, settings.model_copy(update={"publish_ahead": 60}))
    for _ in range(3):
        reconciler.publish_open_jobs()
    assert queue_depth(queue, [queue_name(model) for model in models]) <= 60 + 8


def test_lost_messages_are_found_page_by_page(
    database: Database,
    queue: Celery,
    settings: Settings,
    redis: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.reconciler.FORGET_ROWS", 7)
    for _ in range(3):  # the images of a job are sent at the same moment
        add_job(database, 12)
    reconciler = Reconciler(database, queue, settings)
    reconciler.publish_open_jobs()
    pass_time(database, 60)
    redis.flushdb()
    assert reconciler.forget_lost() == 36
    assert reconciler.forget_lost() == 0
    assert reconciler.publish_open_jobs() == 36


def test_prefetched_messages_of_live_workers_count_and_those_of_dead_ones_do_not(
    database: Database, queue: Celery, settings: Settings, redis: Any
) -> None:
    add_job(database, 5)
    reconciler = Reconciler(database, queue, settings)
    reconciler.publish_open_jobs()
    pass_time(database, 60)
    for number, taken_s_ago in enumerate((0, 60)):
        message = redis.rpop("matting")
        tag = json.loads(message)["properties"]["delivery_tag"]
        assert tag
        redis.zadd("unacked_index", {tag: time.time() - taken_s_ago})
        redis.hset("unacked", tag, json.dumps([json.loads(message), "matting", "matting"]))
        reconciler.forget_lost()
        assert reconciler.publish_open_jobs() == number


def test_a_queue_is_bounded_for_any_number_of_jobs_and_keys(
    database: Database, queue: Celery, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.shares.MAX_OUT", 100)
    for _ in range(20):
        add_job(database, 30, model="of-no-worker")
    add_job(database, 200)
    reconciler = Reconciler(database, queue, settings.model_copy(update={"publish_ahead": 60}))
    for _ in range(3):
        reconciler.publish_open_jobs()
    # In addition each key has its express images.
    assert queue_depth(queue, [queue_name("of-no-worker")]) <= 20 * 8
    assert queue_depth(queue) == 60, "what nobody serves takes nothing from the others"
