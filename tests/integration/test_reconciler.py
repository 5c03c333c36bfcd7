"""The reconciler makes the queue agree with the database, with a real Redis."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import job_store
from shared.database import Database
from shared.errors import QueueError
from shared.job_store import NewItem
from shared.jobs import EXPRESS_IMAGES
from shared.queue import QUEUE, Celery, make_app, parse_message, queue_depth
from shared.reconciler import Reconciler
from shared.settings import Settings


def submit(database: Database, images: int, priority: int) -> uuid.UUID:
    """Write a job like the API."""
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        job = job_store.create_job(
            session,
            api_key_id=key.id,
            options={},
            priority=priority,
            labels={},
            source={"kind": "keys"},
        )
        items = [NewItem(name=f"{n}.jpg", source=f"s3://b/{n}") for n in range(images)]
        job_store.add_items(session, job.id, items)
        job_store.finish_expansion(session, job.id)
        return job.id


@pytest.fixture
def job_id(database: Database) -> uuid.UUID:
    return submit(database, 40, 7)


def reconciler(database: Database, queue: Celery, settings: Settings, ahead: int) -> Reconciler:
    return Reconciler(database, queue, settings.model_copy(update={"publish_ahead": ahead}))


def test_accepted_images_are_sent_once_and_within_the_limit(
    database: Database, queue: Celery, settings: Settings, job_id: uuid.UUID
) -> None:
    bounded = reconciler(database, queue, settings, 15)
    assert bounded.publish_open_jobs() == 15
    assert bounded.publish_open_jobs() == 0
    assert queue_depth(queue) == 15


def test_a_job_that_several_threads_publish_is_sent_once(
    database: Database, queue: Celery, settings: Settings, job_id: uuid.UUID
) -> None:
    shared = reconciler(database, queue, settings, 100)
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(shared.publish_job, [job_id] * 16))
    assert sum(sent) == queue_depth(queue) == 40


def test_a_single_job_keeps_many_workers_busy(
    database: Database, queue: Celery, settings: Settings, job_id: uuid.UUID
) -> None:
    with database.transaction() as session:
        for name in ("one", "two", "of-an-older-version"):
            takes = {} if "older" in name else {"takes": 8}
            job_store.register_worker(session, name, takes)
    assert reconciler(database, queue, settings, 15).publish_open_jobs() == 2 * (8 + 8)


def test_messages_lost_with_redis_are_sent_again(
    database: Database,
    queue: Celery,
    settings: Settings,
    job_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.reconciler.LOST_AFTER_S", -1)
    whole = reconciler(database, queue, settings, 100)
    assert whole.publish_open_jobs() == 40
    assert whole.forget_lost() == 0, "they wait on the queue: nothing is lost"
    with queue.connection_for_write() as connection:
        connection.default_channel.client.flushall()  # type: ignore[attr-defined]  # redis-py's
    assert whole.forget_lost() == 40
    assert whole.publish_open_jobs() == 40
    assert queue_depth(queue) == 40


def test_nothing_is_noted_as_sent_while_redis_is_down(
    database: Database, settings: Settings, job_id: uuid.UUID, queue: Celery
) -> None:
    away = make_app(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    with pytest.raises(QueueError):
        reconciler(database, away, settings, 100).publish_job(job_id)
    away.close()
    assert reconciler(database, queue, settings, 100).publish_job(job_id) == 40


def test_a_small_job_overtakes_a_big_one_s_backlog(
    database: Database, queue: Celery, settings: Settings
) -> None:
    """Whatever the priorities are: all images of the small job come after the first images of the
    big one.
    """
    usual = Reconciler(database, queue, settings)
    big = submit(database, 1_000, 9)
    usual.publish_open_jobs()
    small = submit(database, 5, 0)
    usual.publish_open_jobs()
    with queue.connection_for_read() as connection:
        inbox = queue.amqp.queues[QUEUE](connection)
        taken = []
        for _ in range(EXPRESS_IMAGES + 6):
            message = inbox.get()
            assert message is not None
            message.ack()
            taken.append(parse_message(message.payload[1])[1])
    assert taken == [big] * EXPRESS_IMAGES + [small] * 5 + [big]
