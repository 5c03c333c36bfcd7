"""Photos by URL on slow servers: the other photos are recorded and acknowledged first."""

import threading
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.errors import MattingError, UrlNotFetchedError
from shared.job_store import NewItem, Settlement
from shared.jobs import ItemStatus
from shared.models import Item, Job
from shared.queue import QUEUE, URL_QUEUE, Celery, parse_message
from shared.reconciler import Reconciler
from shared.settings import Settings
from shared.storage import Storage
from tests.integration.stored_jobs import finish, new_key
from tests.integration.test_batch_runner import Threshold
from tests.waiting import eventually
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.pipeline.in_flight import WEB
from worker.pipeline.pipeline import Pipeline


class Hosts:
    """The storage, and a web whose hosts named `slow` answer only on command."""

    def __init__(self, storage: Storage, photo: bytes) -> None:
        self._storage, self._photo = storage, photo
        self.answer = threading.Event()

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        if bucket != WEB:
            return self._storage.get(bucket, key, max_bytes)
        if key.startswith("https://slow") and not self.answer.wait(180):
            raise UrlNotFetchedError
        return self._photo

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self._storage.put(key, data, content_type)


@pytest.fixture
def hosts(storage: Storage, jpeg: bytes) -> Hosts:
    return Hosts(storage, jpeg)


@pytest.fixture
def runner(
    database: Database, storage: Storage, hosts: Hosts, settings: Settings
) -> Iterator[BatchRunner]:
    pipeline = Pipeline(Threshold(), hosts, settings.model_copy(update={"url_threads": 4}))
    yield BatchRunner(database, pipeline, settings, "tests-1", CircuitBreaker(storage.ping))
    hosts.answer.set()
    pipeline.close()


def submit(
    database: Database, sources: list[str], *, key: uuid.UUID | None = None, kind: str = "urls"
) -> tuple[uuid.UUID, list[dict[str, str]]]:
    """Submit a job of these photos. Returns its messages."""
    with database.transaction() as session:
        key = key or job_store.create_api_key(session, "tests")[0].id
        job = job_store.create_job(
            session, api_key_id=key, options={}, priority=5, labels={}, source={"kind": kind}
        )
        items = [NewItem(name=f"{n}.jpg", source=source) for n, source in enumerate(sources)]
        job_store.add_items(session, job.id, items)
        job_store.finish_expansion(session, job.id)
        found = sa.select(Item.id).where(Item.job_id == job.id).order_by(Item.position)
        ids = session.scalars(found).all()
    return job.id, [{"item": str(one), "job": str(job.id), "file": "x"} for one in ids]


def test_fetched_photos_are_recorded_and_acknowledged_while_others_hang(
    database: Database, runner: BatchRunner, hosts: Hosts
) -> None:
    job_id, messages = submit(
        database, [f"https://{host}.example/{n}" for n, host in enumerate(["slow", "quick"] * 3)]
    )
    told: dict[int, str | MattingError | None] = {}

    def tell(place: int, result: str | MattingError | None) -> None:
        assert place not in told
        told[place] = result

    rubbish = [*messages, {"x": "y"}]
    running = threading.Thread(
        target=runner.run_each, args=(rubbish, tell), kwargs={"urgent": False}
    )
    running.start()
    eventually(lambda: {1, 3, 5} <= told.keys(), "the fast ones to be told")
    assert running.is_alive()
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.succeeded, job.running) == (3, 3)
    assert len(runner.held) == 3, "the leases of those that hang are renewed, and no others"
    hosts.answer.set()
    running.join(180)
    assert [told[place] for place in range(6)] == ["succeeded"] * 6
    assert isinstance(told[6], MattingError)
    assert runner.held == []
    with database.transaction() as session:
        assert session.scalars(sa.select(Item.status)).all() == [ItemStatus.SUCCEEDED] * 6


def test_hanging_urls_use_no_storage_threads(
    database: Database, storage: Storage, runner: BatchRunner, hosts: Hosts, jpeg: bytes
) -> None:
    _, hanging = submit(database, [f"https://slow.example/{n}" for n in range(12)])
    for number in range(8):
        storage.put(f"in/{number}", jpeg, "image/jpeg")
    _, stored = submit(database, [f"s3://{storage.bucket}/in/{n}" for n in range(8)])
    told: list[int] = []
    threads = [
        threading.Thread(
            target=runner.run_each,
            args=(hanging[start : start + 4], lambda place, _: told.append(place)),
            kwargs={"urgent": False},
        )
        for start in range(0, 12, 4)
    ]
    for thread in threads:
        thread.start()
    assert runner.run_many(stored) == ["succeeded"] * 8
    assert told == []
    hosts.answer.set()
    for thread in threads:
        thread.join(180)
    assert len(told) == 12


def test_photos_by_url_are_sent_to_queues_of_their_own(
    database: Database, queue: Celery, settings: Settings, storage: Storage
) -> None:
    job_id, messages = submit(
        database, ["https://host.example/a", f"s3://{storage.bucket}/b", "http://host.example/c"]
    )
    assert Reconciler(database, queue, settings).publish_job(job_id) == 3
    found: dict[str, set[str]] = {}
    with queue.connection_for_read() as connection:
        for name in (QUEUE, URL_QUEUE):
            inbox = queue.amqp.queues[name](connection)
            found[name] = set()
            while (message := inbox.get()) is not None:
                message.ack()
                found[name].add(str(parse_message(message.payload[1])[0]))
    assert found[QUEUE] == {messages[1]["item"]}
    assert found[URL_QUEUE] == {messages[0]["item"], messages[2]["item"]}


def hanging_urls(count: int) -> list[str]:
    return [f"https://slow.example/{n}" for n in range(count)]


def test_one_key_s_urls_leave_places_for_the_first_urls_of_another(
    database: Database, queue: Celery, settings: Settings
) -> None:
    reconciler = Reconciler(database, queue, settings.model_copy(update={"url_threads": 8}))
    key = new_key(database)
    first, _ = submit(database, hanging_urls(100), key=key)
    assert reconciler.publish_job(first) == 6, "three quarters of the places"
    for _ in range(3):
        more, _ = submit(database, hanging_urls(8), key=key)
        assert reconciler.publish_job(more) == 0
        assert reconciler.publish_open_jobs() == 0, "more jobs do not give a key more places"
    with database.transaction() as session:
        sent = sa.select(Item.id).where(Item.job_id == first, Item.published_at.is_not(None))
        held = job_store.claim_many(
            session, list(session.scalars(sent)), job_ids=[first], owner="w1", lease_s=60
        ).claims()
    assert reconciler.publish_open_jobs() == 0, "they still hang"
    other, _ = submit(database, hanging_urls(100))
    assert reconciler.publish_job(other) + reconciler.publish_open_jobs() == 3
    finish(database, [Settlement(claim=one, result_key="k") for one in held])
    assert reconciler.publish_open_jobs() == 3, "the first key has half of them from now on"


def test_a_list_s_photos_in_the_storage_are_sent_beside_urls_that_hang(
    database: Database, queue: Celery, settings: Settings
) -> None:
    reconciler = Reconciler(database, queue, settings.model_copy(update={"url_threads": 8}))
    listed = [*hanging_urls(50), *(f"s3://b/{n}" for n in range(20))]
    job, _ = submit(database, listed, kind="manifest")
    assert reconciler.publish_job(job) == 6 + 20
    assert reconciler.publish_open_jobs() == 0


def test_a_service_without_workers_sends_few_urls_of_a_key_and_more_workers_get_more(
    database: Database, queue: Celery, settings: Settings
) -> None:
    reconciler = Reconciler(database, queue, settings.model_copy(update={"url_threads": 8}))
    submit(database, hanging_urls(100))
    assert reconciler.publish_open_jobs() == 6
    with database.transaction() as session:
        for name in ("one", "two", "of-an-older-version"):
            places = {} if "older" in name else {"url_places": 20}
            job_store.register_worker(session, name, places)
    assert reconciler.publish_open_jobs() == (20 + 20 + 8) * 3 // 4 - 6
