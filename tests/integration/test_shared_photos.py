"""Several rows that share one photo: each is an item with its own id, options and columns."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.job_store import NewItem
from shared.jobs import ItemStatus
from shared.models import Item, Job
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage
from tests.integration.test_results import Counting
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.pipeline import transfers
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.result_reuse import ResultReuse


@pytest.fixture
def predictor() -> Counting:
    return Counting()


@pytest.fixture
def runner(
    database: Database, storage: Storage, settings: Settings, predictor: Counting
) -> Iterator[BatchRunner]:
    one_by_one = settings.model_copy(update={"io_threads": 1})
    pipeline = Pipeline(predictor, storage, one_by_one, ResultReuse(database, storage, "a model"))
    yield BatchRunner(database, pipeline, settings, "tests-1", CircuitBreaker(storage.ping))
    pipeline.close()


def new_job(database: Database) -> uuid.UUID:
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        options = Options().model_dump(mode="json")
        return job_store.create_job(
            session, api_key_id=key.id, options=options, priority=5, labels={}, source={}
        ).id


def add(database: Database, job_id: uuid.UUID, rows: list[NewItem]) -> int:
    with database.transaction() as session:
        return job_store.add_items(session, job_id, rows)


def items(database: Database, job_id: uuid.UUID) -> list[Item]:
    with database.transaction() as session:
        return list(
            session.scalars(sa.select(Item).where(Item.job_id == job_id).order_by(Item.position))
        )


def shirt(place: str, number: str | None, **own: Any) -> NewItem:
    return NewItem(name="shirt.jpg", source=place, custom_id=number, **own)


def test_each_row_is_an_item_and_the_same_row_again_is_none(database: Database) -> None:
    job_id, place = new_job(database), "s3://photos/shirt.jpg"
    webp = Options.model_validate({"format": "webp"}).model_dump(mode="json")
    page = [
        shirt(place, "S", labels={"size": "S", "price": 1.5}),
        shirt(place, "M"),
        shirt(place, "L", options=webp),
        shirt(place, "M"),
        shirt("s3://photos/other.jpg", None),
        shirt(place, None),
    ]
    assert add(database, job_id, page) == 5
    assert add(database, job_id, page) == 0, "a page that is listed twice adds nothing"
    assert add(database, job_id, [shirt(place, "XL"), shirt(place, "S")]) == 2, "S without columns"
    found = items(database, job_id)
    assert [one.custom_id for one in found] == ["S", "M", "L", None, None, "XL", "S"]
    assert {one.place for one in found} == {place, "s3://photos/other.jpg"}
    with database.transaction() as session:
        assert session.get_one(Job, job_id).total == 7
        listed = job_store.sources_of(session, job_id, after=0, limit=10)
        assert {source for _, source in listed} == {place, "s3://photos/other.jpg"}


@pytest.mark.parametrize("part_bytes", [transfers.PART_BYTES, 1])
def test_a_shared_photo_is_computed_once_for_rows_with_the_same_options(
    database: Database,
    storage: Storage,
    runner: BatchRunner,
    predictor: Counting,
    jpeg: bytes,
    part_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfers, "PART_BYTES", part_bytes)
    key, bad = f"in/{uuid.uuid4()}.jpg", f"in/{uuid.uuid4()}.jpg"
    storage.put(key, jpeg, "image/jpeg")
    storage.put(bad, b"<html>", "image/jpeg")
    job_id, place = new_job(database), f"s3://{storage.bucket}/{key}"
    named = Options.model_validate({"name": "shirt-m.{ext}"}).model_dump(mode="json")
    webp = Options.model_validate({"format": "webp"}).model_dump(mode="json")
    damaged = f"s3://{storage.bucket}/{bad}"
    rows = [
        shirt(place, "S"),
        shirt(place, "M", options=named),
        shirt(place, "L", options=webp),
        shirt(damaged, "A"),
        shirt(damaged, "B"),
    ]
    assert add(database, job_id, rows) == 5
    messages = [
        {"item": str(one.id), "job": str(job_id), "file": one.name}
        for one in items(database, job_id)
    ]
    results = runner.run_many(messages)
    assert results[:3] == ["succeeded"] * 3
    small, medium, large, *broken = items(database, job_id)
    assert predictor.images == 2, "PNG once, WebP once"
    assert small.reused is not medium.reused, "whichever was fetched last"
    assert not large.reused
    assert [one.error_code for one in broken] == ["not-an-image"] * 2
    assert {one.status for one in broken} == {ItemStatus.FAILED}
    assert small.result_key
    assert medium.result_key
    assert small.result_key != medium.result_key
    assert storage.get(storage.bucket, medium.result_key, 10**7) == storage.get(
        storage.bucket, small.result_key, 10**7
    )
    assert medium.outputs
    assert [output["name"] for output in medium.outputs] == ["shirt-m.png"]
    assert (medium.width, medium.height) == (small.width, small.height)
