"""The recorded result of an image: its files, its review marks, and whether it was reused."""

import uuid
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.errors import SourceNotFoundError
from shared.job_store import NewItem
from shared.jobs import Verdict
from shared.models import Item, Job
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage
from tests.integration.test_batch_runner import Threshold
from worker.concurrency.pixel_budget import PixelBudget
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.result_reuse import ResultReuse


class Counting(Threshold):
    """A predictor that counts images."""

    images = 0

    def predict_many(self, prepared: Any) -> Any:
        self.images += len(prepared)
        return super().predict_many(prepared)


@pytest.fixture
def predictor() -> Counting:
    return Counting()


@pytest.fixture
def runner(
    database: Database, storage: Storage, settings: Settings, predictor: Counting
) -> Iterator[BatchRunner]:
    past = ResultReuse(database, storage, "a model")
    pipeline = Pipeline(predictor, storage, settings, past)
    yield BatchRunner(database, pipeline, settings, "tests-1", CircuitBreaker(storage.ping))
    pipeline.close()


@pytest.fixture
def key(database: Database) -> uuid.UUID:
    return new_key(database)


def new_key(database: Database) -> uuid.UUID:
    with database.transaction() as session:
        return job_store.create_api_key(session, "tests")[0].id


def run(
    database: Database,
    storage: Storage,
    runner: BatchRunner,
    api_key_id: uuid.UUID,
    data: bytes,
    options: dict[str, Any] | None = None,
) -> Item:
    """Run a job of one photo to its end. Returns its item."""
    source = f"in/{uuid.uuid4()}"
    storage.put(source, data, "image/jpeg")
    with database.transaction() as session:
        asked = Options.model_validate(options or {}).model_dump(mode="json")
        job = job_store.create_job(
            session, api_key_id=api_key_id, options=asked, priority=5, labels={}, source={}
        )
        place = f"s3://{storage.bucket}/{source}"
        job_store.add_items(session, job.id, [NewItem(name="shop/shoe.jpg", source=place)])
        job_store.finish_expansion(session, job.id)
        item_id = session.scalars(sa.select(Item.id).where(Item.job_id == job.id)).one()
    runner.run_many([{"item": str(item_id), "job": str(job.id), "file": "x"}])
    with database.transaction() as session:
        item = session.get(Item, item_id)
        assert item is not None
        assert item.status == "succeeded", item.error_detail
        return item


def job_of(database: Database, item: Item) -> Job:
    with database.transaction() as session:
        job = session.get(Job, item.job_id)
        assert job is not None
        return job


def test_the_same_photo_is_computed_once_across_jobs(
    database: Database,
    storage: Storage,
    runner: BatchRunner,
    predictor: Counting,
    key: uuid.UUID,
    jpeg: bytes,
) -> None:
    first = run(database, storage, runner, key, jpeg)
    computed = predictor.images
    second = run(database, storage, runner, key, jpeg)
    assert predictor.images == computed
    assert (first.reused, second.reused) == (False, True)
    assert job_of(database, second).reused == 1
    assert first.result_key is not None
    assert second.result_key not in (None, first.result_key)
    results = [
        storage.get(storage.bucket, item.result_key or "", 10**7) for item in (first, second)
    ]
    assert results[0] == results[1]
    assert (second.width, second.height, second.output_bytes) == (400, 300, len(results[1]))


def test_a_reused_photo_that_waits_for_the_pixel_budget_is_counted(
    database: Database, storage: Storage, settings: Settings, key: uuid.UUID, jpeg: bytes
) -> None:
    """The photo's result is copied while others are decoded. The photo itself is never decoded."""
    past = ResultReuse(database, storage, "a model")
    pipeline = Pipeline(Counting(), storage, settings, past, pixel_budget=PixelBudget(1))
    runner = BatchRunner(database, pipeline, settings, "tests-1", CircuitBreaker(storage.ping))
    first = run(database, storage, runner, key, jpeg)
    with database.transaction() as session:
        job = job_store.create_job(
            session,
            api_key_id=key,
            options=Options().model_dump(mode="json"),
            priority=5,
            labels={},
            source={},
        )
        places = []
        for number in range(4):
            storage.put(f"again/{number}", jpeg, "image/jpeg")
            places.append(f"s3://{storage.bucket}/again/{number}")
        job_store.add_items(
            session, job.id, [NewItem(name=f"{n}.jpg", source=at) for n, at in enumerate(places)]
        )
        job_store.finish_expansion(session, job.id)
        ids = session.scalars(sa.select(Item.id).where(Item.job_id == job.id)).all()
    runner.run_many([{"item": str(one), "job": str(job.id), "file": "x"} for one in ids])
    pipeline.close()
    with database.transaction() as session:
        items = session.scalars(sa.select(Item).where(Item.job_id == job.id)).all()
        counted = session.get(Job, job.id)
        assert counted is not None
        assert [item.reused for item in items] == [True] * 4
        for item in items:
            assert (item.width, item.height) == (400, 300)
            assert (item.input_bytes, item.output_bytes) == (len(jpeg), first.output_bytes)
        assert counted.pixels == 4 * 400 * 300
        assert counted.input_bytes == 4 * len(jpeg)


def test_a_result_never_reaches_another_key(
    database: Database,
    storage: Storage,
    runner: BatchRunner,
    predictor: Counting,
    key: uuid.UUID,
    jpeg: bytes,
) -> None:
    first = run(database, storage, runner, key, jpeg)
    computed = predictor.images
    other = run(database, storage, runner, new_key(database), jpeg)
    assert not other.reused
    assert predictor.images > computed
    assert other.fingerprint != first.fingerprint
    with database.transaction() as session:
        # Even the right fingerprint finds only the key's own results.
        mine = (job_of(database, other).api_key_id, first.fingerprint or "")
        assert job_store.find_earlier_results(session, [mine]) == {}


def test_other_options_and_other_bytes_give_new_results(
    database: Database, storage: Storage, runner: BatchRunner, key: uuid.UUID, jpeg: bytes
) -> None:
    run(database, storage, runner, key, jpeg)
    assert not run(database, storage, runner, key, jpeg, {"format": "webp"}).reused
    assert not run(database, storage, runner, key, jpeg + b"\0").reused


def test_another_model_gives_a_new_result(
    database: Database, storage: Storage, runner: BatchRunner, settings: Settings, jpeg: bytes
) -> None:
    key = new_key(database)
    first = run(database, storage, runner, key, jpeg)
    pipeline = Pipeline(
        Counting(), storage, settings, ResultReuse(database, storage, "the next model")
    )
    next_drain = BatchRunner(database, pipeline, settings, "tests-2", CircuitBreaker(storage.ping))
    other = run(database, storage, next_drain, key, jpeg)
    assert not other.reused
    assert other.fingerprint != first.fingerprint
    assert run(database, storage, next_drain, key, jpeg).reused
    pipeline.close()


def test_a_result_that_was_deleted_is_computed_again(
    database: Database, storage: Storage, runner: BatchRunner, key: uuid.UUID, jpeg: bytes
) -> None:
    first = run(database, storage, runner, key, jpeg)
    assert first.result_key is not None
    storage._client.delete_object(Bucket=storage.bucket, Key=first.result_key)
    with pytest.raises(SourceNotFoundError):
        storage.get(storage.bucket, first.result_key, 10**7)
    second = run(database, storage, runner, key, jpeg)
    assert not second.reused
    assert storage.get(storage.bucket, second.result_key or "", 10**7)


def test_a_result_with_the_review_mark_of_a_newer_worker_is_computed_again(
    database: Database, storage: Storage, runner: BatchRunner, key: uuid.UUID, jpeg: bytes
) -> None:
    first = run(database, storage, runner, key, jpeg)
    with database.transaction() as session:
        session.get_one(Item, first.id).review_reasons = ["of-a-newer-version"]
    assert not run(database, storage, runner, key, jpeg).reused


def test_several_outputs_are_stored_named_and_copied(
    database: Database, storage: Storage, runner: BatchRunner, key: uuid.UUID, jpeg: bytes
) -> None:
    wanted = {
        "extra_outputs": [
            {"name": "{stem}-alpha.{ext}", "output": "alpha"},
            {"name": "{folder}/{stem}-{width}.{ext}", "max_side_px": 40, "format": "webp"},
        ]
    }
    first = run(database, storage, runner, key, jpeg, wanted)
    second = run(database, storage, runner, key, jpeg, wanted)
    assert second.reused
    for item in (first, second):
        outputs = item.outputs or []
        names = [one["name"] for one in outputs]
        assert names == ["shop/shoe.png", "shoe-alpha.png", "shop/shoe-40.webp"]
        for one in outputs:
            data = storage.get(storage.bucket, one["key"], 10**7)
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            assert picture is not None
            assert len(data) == one["bytes"]
            assert picture.shape[:2] == (one["height"], one["width"])
    assert {one["key"] for one in first.outputs or []}.isdisjoint(
        one["key"] for one in second.outputs or []
    )


def test_violated_marketplace_rules_are_recorded(
    database: Database, storage: Storage, runner: BatchRunner, key: uuid.UUID, jpeg: bytes
) -> None:
    item = run(database, storage, runner, key, jpeg, {"preset": "amazon"})
    (output,) = item.outputs or []
    (unmet,) = output["unmet"]
    assert "at least 1000" in unmet


def test_a_background_picture_is_read_from_the_storage(
    database: Database, storage: Storage, runner: BatchRunner, key: uuid.UUID, jpeg: bytes
) -> None:
    blue = np.zeros((60, 80, 3), np.uint8)
    blue[:] = (250, 10, 20)
    storage.put("backs/blue.png", cv2.imencode(".png", blue)[1].tobytes(), "image/png")
    asked = {"background": f"s3://{storage.bucket}/backs/blue.png"}
    item = run(database, storage, runner, key, jpeg, asked)
    assert item.fingerprint is None, "the picture may change under its name"
    data = storage.get(storage.bucket, item.result_key or "", 10**7)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert picture[0, 0].tolist() == [250, 10, 20]


def test_review_marks_are_recorded_counted_and_answered(
    database: Database, storage: Storage, runner: BatchRunner, key: uuid.UUID, jpeg: bytes
) -> None:
    grey = cv2.imencode(".png", np.full((300, 300, 3), 90, np.uint8))[1].tobytes()
    empty = run(database, storage, runner, key, grey)
    fine = run(database, storage, runner, key, jpeg)
    assert (empty.needs_review, empty.review_reasons) == (True, ["empty"])
    assert (fine.needs_review, fine.review_reasons) == (False, None)
    assert job_of(database, empty).needs_review == 1

    def counts() -> tuple[int, int]:
        job = job_of(database, empty)
        return job.accepted, job.rejected

    def listed(which: str) -> int:
        with database.transaction() as session:
            return len(
                job_store.list_items(
                    session, empty.job_id, status=None, review=which, after=0, limit=10
                )
            )

    assert (listed("flagged"), listed("pending"), listed("accepted")) == (1, 1, 0)
    for verdict, expected in (
        (Verdict.REJECT, (0, 1)),
        (Verdict.ACCEPT, (1, 0)),
        (Verdict.ACCEPT, (1, 0)),
        (None, (0, 0)),
    ):
        with database.transaction() as session:
            item = job_store.record_verdict(session, empty, verdict=verdict, note="seen")
            assert item.verdict_note == ("seen" if verdict else None)
        assert counts() == expected
    assert (listed("pending"), listed("rejected")) == (1, 0)
