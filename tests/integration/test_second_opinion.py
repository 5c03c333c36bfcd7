"""The second opinion with the real U²-NetP, and an image on its way through two workers."""

import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import sqlalchemy as sa
from rich.console import Console

from deploy.commands.second_models import SecondModels
from shared import job_store
from shared.database import Database, now
from shared.errors import StorageError
from shared.job_store import NewItem
from shared.jobs import JobStatus
from shared.models import Item, Job
from shared.options import Options, Profile
from shared.queue import Celery
from shared.reconciler import Reconciler
from shared.settings import Settings
from shared.storage import Storage
from tests.integration.stored_jobs import assert_counters_match_rows, expire_leases
from tests.integration.test_batch_runner import Flaky, submit
from tests.unit.test_second_opinions import Red, Shelf
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.consumer.other_workers import OtherWorkers
from worker.inference.catalog import BUNDLES
from worker.inference.predictor import load_predictor
from worker.pipeline.model_router import ModelRouter
from worker.pipeline.pipeline import Pipeline, WorkItem
from worker.pipeline.second_opinions import SecondOpinions
from worker.pipeline.work_items import requested_outputs


def test_the_real_second_model_mends_a_doubtful_photo_of_a_batch(jpeg: bytes) -> None:
    settings = Settings()
    one = settings.model_copy(update={"model": "u2netp", "predict_streams": 1})
    real = load_predictor(one, warm_shapes=False)
    shelf = Shelf(jpeg)
    seconds = SecondOpinions(settings, {"u2netp": real}.get)
    pipeline = Pipeline(Red(0.6), shelf, settings, second=seconds)
    asked = [Options(), Options(second_model="none"), Options(profile=Profile.EXACT)]
    items = [
        WorkItem(
            item_id=f"{number}",
            bucket="photos",
            key=f"{number}",
            options=options,
            outputs=requested_outputs(options, [f"r{number}"]),
        )
        for number, options in enumerate(asked)
    ]
    outcomes = pipeline.run_many(items)
    pipeline.close()
    real.close()
    assert [one.error for one in outcomes] == [None, None, None]
    assert [one.model for one in outcomes] == ["u2netp", "builtin", "u2netp"]
    assert [bool(one.review) for one in outcomes] == [False, True, False]
    for number, opaque in enumerate((255, 153, 255)):
        picture = cv2.imdecode(np.frombuffer(shelf.stored[f"r{number}"], np.uint8), -1)
        assert picture is not None
        assert picture.shape == (300, 400, 4)
        assert abs(int(picture[150, 200, 3]) - opaque) < 12
        assert picture[5, 5, 3] < 10


def test_a_second_model_that_cannot_be_loaded_ends_no_cutout(
    tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded when the first doubtful photo comes, in the middle of a folder."""
    said = StringIO()
    monkeypatch.setattr("deploy.commands.second_models.console", Console(file=said, width=999))
    shutil.copytree(BUNDLES / "u2netp", tmp_path / "other")
    settings = Settings(models_dir=tmp_path, second_model="other")
    second = SecondModels(settings, Options(), 1)
    shutil.rmtree(tmp_path / "other")
    shelf = Shelf(jpeg)
    items = [
        WorkItem(
            item_id=f"{number}",
            bucket="photos",
            key=f"{number}",
            options=Options(),
            outputs=requested_outputs(Options(), [f"r{number}"]),
        )
        for number in range(2)
    ]
    with closing(second), closing(Pipeline(Red(0.6), shelf, settings, second=second.opinions)) as p:
        outcomes = [outcome for item in items for outcome in p.run_many([item])]
    assert [(one.error, one.model, bool(one.review)) for one in outcomes] == [
        (None, "builtin", True)
    ] * 2
    assert said.getvalue().count("loading the model other for doubtful photos") == 1
    assert said.getvalue().count("the second model other") == 1
    assert "model-load-failed" in said.getvalue()


@pytest.mark.parametrize(("photos", "networks"), [(16, 1), (17, 2)])
def test_a_cutout_of_few_photos_opens_one_second_network(
    jpeg: bytes, photos: int, networks: int
) -> None:
    settings = Settings(precision="fp32", cpu_threads=2)
    second = SecondModels(settings, Options(), photos)
    item = WorkItem(
        item_id="0",
        bucket="photos",
        key="0",
        options=Options(),
        outputs=requested_outputs(Options(), ["r0"]),
    )
    with (
        closing(second),
        closing(Pipeline(Red(0.6), Shelf(jpeg), settings, second=second.opinions)) as p,
    ):
        before = streams_running()
        [outcome] = p.run_many([item])
        assert (outcome.error, streams_running() - before) == (None, networks)


def streams_running() -> int:
    return sum(one.name.startswith("stream") for one in threading.enumerate())


class Workers:
    """A worker of the first model and one of the second, on one database and storage."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self.database = database
        self.store = Flaky(storage, 0)
        self.runners: dict[str, BatchRunner] = {}
        self.pipelines: list[Pipeline] = []
        others = OtherWorkers(database, settings)
        for model, alpha in (("builtin", 0.7), ("u2netp", 1.0)):
            seconds = SecondOpinions(settings, lambda _: None, others.serve)
            own = settings.model_copy(update={"model": model})
            pipeline = Pipeline(Red(alpha), self.store, own, second=seconds)
            router = ModelRouter({model: pipeline}, "builtin")
            breaker = CircuitBreaker(storage.ping)
            self.runners[model] = BatchRunner(database, router, settings, model, breaker)
            self.pipelines.append(pipeline)

    def announce(self, model: str) -> None:
        """The worker of this model reports that it is warm."""
        with self.database.transaction() as session:
            job_store.register_worker(session, model, {"models": [model]})

    def close(self) -> None:
        for pipeline in self.pipelines:
            pipeline.close()


@pytest.fixture
def attempts() -> int:
    """How many are allowed."""
    return 2


@pytest.fixture
def workers(
    database: Database, storage: Storage, settings: Settings, attempts: int
) -> Iterator[Workers]:
    quick = settings.model_copy(update={"retry_base_s": 0.001, "max_attempts": attempts})
    workers = Workers(database, storage, quick)
    yield workers
    workers.close()


def item_of(database: Database, job_id: uuid.UUID) -> Item:
    with database.transaction() as session:
        return session.scalars(sa.select(Item).where(Item.job_id == job_id)).one()


def due(database: Database, job_id: uuid.UUID) -> list[str | None]:
    """The models on whose queues the job's images are due."""
    with database.transaction() as session:
        return [one.model for one in job_store.publishable(session, job_id, ahead=9)]


def test_a_doubtful_image_goes_through_the_queue_of_the_second_model(
    database: Database, storage: Storage, workers: Workers, jpeg: bytes
) -> None:
    workers.announce("u2netp")
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    assert workers.runners["builtin"].run_many(messages) == ["forwarded"]
    assert workers.runners["builtin"].held == []
    waiting = item_of(database, job_id)
    assert (waiting.status, waiting.forwarded_to, waiting.result_key) == ("queued", "u2netp", None)
    assert_counters_match_rows(database, job_id)
    assert due(database, job_id) == ["u2netp"]

    # A late message of the first queue: that worker may not decide.
    assert workers.runners["builtin"].run_many(messages) == [None]
    assert workers.runners["u2netp"].run_many(messages) == ["succeeded"]
    assert workers.runners["u2netp"].run_many(messages) == [None]
    done = item_of(database, job_id)
    assert (done.status, done.matte_model, done.needs_review) == ("succeeded", "u2netp", False)
    assert done.fingerprint is None
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.succeeded) == (JobStatus.FINISHED, 1)
        assert job_store.usage_of(session, [job.api_key_id])[0].images == 1
    assert_counters_match_rows(database, job_id)


def test_an_image_whose_second_model_is_no_longer_served_returns_to_the_first(
    database: Database,
    settings: Settings,
    storage: Storage,
    queue: Celery,
    workers: Workers,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers.announce("builtin")
    workers.announce("u2netp")
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    assert workers.runners["builtin"].run_many(messages) == ["forwarded"]
    reconciler = Reconciler(database, queue, settings)
    assert reconciler.publish_open_jobs() == 1
    monkeypatch.setattr("shared.reconciler.UNSERVED_S", 0)
    assert reconciler.recall_forwarded() == 0, "its worker is there"
    with database.transaction() as session:
        job_store.forget_worker(session, "u2netp")
    monkeypatch.setattr("shared.reconciler.UNSERVED_S", 60)
    assert reconciler.recall_forwarded() == 0, "its worker may come back"
    monkeypatch.setattr("shared.reconciler.UNSERVED_S", 0)
    assert reconciler.recall_forwarded() == 1
    assert due(database, job_id) == [None]
    assert item_of(database, job_id).attempts == 0
    for pipeline in workers.pipelines:
        monkeypatch.setattr(pipeline._second, "_served_elsewhere", lambda _: False)
    assert workers.runners["builtin"].run_many(messages) == ["succeeded"]
    done = item_of(database, job_id)
    assert (done.matte_model, done.needs_review) == ("builtin", True)
    assert_counters_match_rows(database, job_id)


@pytest.mark.parametrize("attempts", [1])
def test_a_message_that_comes_to_the_wrong_model_costs_no_attempt(
    database: Database, storage: Storage, workers: Workers, jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Before the image has gone on, and after it has come back: a large model is loaded again, and
    finds the old message on its queue.
    """
    workers.announce("u2netp")
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    assert workers.runners["builtin"].run_many(messages) == ["forwarded"]
    assert workers.runners["builtin"].run_many(messages) == [None]
    waiting = item_of(database, job_id)
    assert (waiting.status, waiting.attempts, waiting.error_code) == ("queued", 1, None)
    with database.transaction() as session:
        job_store.mark_published_many(session, job_store.publishable(session, job_id, ahead=9))
        assert job_store.recall_forwarded(session, ["u2netp"], limit=9) == 1
    assert workers.runners["u2netp"].run_many(messages) == [None]
    waiting = item_of(database, job_id)
    assert (waiting.status, waiting.attempts, waiting.error_code) == ("queued", 0, None)
    assert_counters_match_rows(database, job_id)
    assert due(database, job_id) == [None]
    for pipeline in workers.pipelines:
        monkeypatch.setattr(pipeline._second, "_served_elsewhere", lambda _: False)
    assert workers.runners["builtin"].run_many(messages) == ["succeeded"]
    assert_counters_match_rows(database, job_id)


def test_a_row_that_asks_for_the_default_model_waits_on_its_queue(database: Database) -> None:
    """Whatever the model of its job is: that one's workers may serve no other."""
    of_row = Options().model_dump(mode="json")
    photos = [
        NewItem(name="a.jpg", source="s3://photos/a.jpg"),
        NewItem(name="b.jpg", source="s3://photos/b.jpg", options=of_row),
        NewItem(name="c.jpg", source="s3://photos/c.jpg", options={**of_row, "model": "u2netp"}),
    ]
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        job = job_store.create_job(
            session,
            api_key_id=key.id,
            options=Options(model="modnet").model_dump(mode="json"),
            priority=5,
            labels={},
            source={"kind": "keys"},
        )
        job_store.add_items(session, job.id, photos)
    assert due(database, job.id) == ["modnet", None, "u2netp"]
    with database.transaction() as session:
        job_store.mark_published_many(session, job_store.publishable(session, job.id, ahead=9))
        session.execute(sa.update(Item).values(published_at=now(session) - timedelta(minutes=1)))
        sent = job_store.unclaimed(session, older_than_s=1, limit=9)
    assert sorted(one.model or "" for one in sent) == ["", "modnet", "u2netp"]


def test_a_forwarded_image_keeps_its_tries(
    database: Database, storage: Storage, workers: Workers, jpeg: bytes
) -> None:
    """Two are allowed, whichever worker fails or dies."""
    workers.announce("u2netp")
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    workers.runners["builtin"].run_many(messages)
    workers.store.failures = 1
    (failed,) = workers.runners["u2netp"].run_many(messages)
    assert isinstance(failed, StorageError)
    assert due(database, job_id) == ["u2netp"]
    assert workers.runners["u2netp"].run_many(messages) == ["succeeded"]


def test_an_image_whose_job_is_cancelled_is_not_forwarded(
    database: Database, storage: Storage, workers: Workers, jpeg: bytes
) -> None:
    workers.announce("u2netp")
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    put = workers.store.put

    def cancelled(key: str, data: bytes, content_type: str) -> None:
        with database.transaction() as session:
            job_store.cancel_job(session, job_id)
        put(key, data, content_type)

    workers.store.put = cancelled  # type: ignore[method-assign]  # while the handover is written
    assert workers.runners["builtin"].run_many(messages) == ["cancelled"]
    assert item_of(database, job_id).status == "cancelled"
    assert_counters_match_rows(database, job_id)


def test_a_worker_that_dies_with_a_forwarded_image_leaves_it_to_the_next(
    database: Database, storage: Storage, workers: Workers, jpeg: bytes
) -> None:
    workers.announce("u2netp")
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    workers.runners["builtin"].run_many(messages)
    with database.transaction() as session:
        ids = [uuid.UUID(messages[0]["item"])]
        job_store.claim_many(session, ids, job_ids=[job_id], owner="dies", lease_s=20)
    expire_leases(database)
    with database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=2) == 1
    assert due(database, job_id) == ["u2netp"]
    assert workers.runners["u2netp"].run_many(messages) == ["succeeded"]


def test_without_a_worker_of_the_second_model_the_first_result_stands(
    database: Database, storage: Storage, workers: Workers, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    assert workers.runners["builtin"].run_many(messages) == ["succeeded"]
    done = item_of(database, job_id)
    assert (done.matte_model, done.needs_review, done.fingerprint) == ("builtin", True, None)
