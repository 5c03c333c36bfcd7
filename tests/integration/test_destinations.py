"""Results in destinations, on both databases and real S3: exactly once, and collisions in time."""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import cast

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from api.sources.expansion import Expander
from shared import job_store
from shared.database import Database, Session
from shared.errors import (
    BadResultNameError,
    DestinationCollisionError,
    LeaseLostError,
    MattingError,
)
from shared.job_store import NewItem, NewVersion
from shared.jobs import JobStatus, MadeBy
from shared.models import Item, Job, ResultPlace, new_id
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage
from shared.web import Web
from tests.integration.stored_jobs import expire_leases, read
from tests.integration.test_batch_runner import Threshold
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.imaging.prepared import PreparedImage
from worker.pipeline.photo_sources import PhotoSources
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.result_reuse import ResultReuse

Message = dict[str, str]


@pytest.fixture
def folder() -> str:
    """A folder of its own in a customer's bucket."""
    return str(uuid.uuid4())


class Worker(Threshold):
    """A worker whose network first does something else."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self.first: Callable[[], object] = lambda: None
        self.computed = 0
        sources = PhotoSources(storage, cast(Web, None))
        past = ResultReuse(database, storage, "a model")
        self.pipeline = Pipeline(self, sources, settings, past, publisher=sources)
        breaker = CircuitBreaker(storage.ping)
        self._runner = BatchRunner(database, self.pipeline, settings, str(id(self)), breaker)

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        self.first()
        self.computed += len(prepared)
        return super().predict_many(prepared)

    def run(self, messages: Sequence[Message]) -> list[str | MattingError | None]:
        return self._runner.run_many(messages)


@pytest.fixture
def worker(database: Database, storage: Storage, settings: Settings) -> Iterator[Worker]:
    worker = Worker(database, storage, settings)
    with closing(worker.pipeline):
        yield worker


@pytest.fixture
def other(database: Database, storage: Storage, settings: Settings) -> Iterator[Worker]:
    worker = Worker(database, storage, settings)
    with closing(worker.pipeline):
        yield worker


def submit(
    database: Database, storage: Storage, jpeg: bytes, destination: str, *labels: dict[str, str]
) -> tuple[uuid.UUID, list[Message]]:
    """A job of one photo for each of the labels. Returns its messages."""
    storage.put("in/shoe.jpg", jpeg, "image/jpeg")
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        job = job_store.create_job(
            session,
            api_key_id=key.id,
            options=Options().model_dump(mode="json"),
            priority=5,
            labels={},
            source={"kind": "manifest"},
            destination=destination,
        )
        place = f"s3://{storage.bucket}/in/shoe.jpg"
        rows = [NewItem(name="shoe.jpg", source=place, labels=dict(one)) for one in labels]
        job_store.add_items(session, job.id, rows)
        job_store.finish_expansion(session, job.id)
        return job.id, messages(session, job.id)


def messages(session: Session, job_id: uuid.UUID) -> list[Message]:
    ids = session.scalars(sa.select(Item.id).where(Item.job_id == job_id).order_by(Item.position))
    return [{"item": str(one), "job": str(job_id), "file": "x"} for one in ids]


def written(storage: Storage, folder: str) -> dict[str, bytes]:
    """The objects below a folder of the customer's bucket."""
    keys = storage.list_page(ObjectUrl("photos", f"{folder}/"), after=None)
    return {key.removeprefix(f"{folder}/"): storage.get("photos", key, 10**7) for key in keys}


def test_results_are_written_under_the_caller_s_keys_and_under_their_items(
    database: Database, storage: Storage, worker: Worker, folder: str, jpeg: bytes
) -> None:
    rows = [{"sku": "A 1"}, {"sku": "B/2"}]
    _, sent = submit(database, storage, jpeg, f"s3://photos/{folder}/{{sku}}.{{ext}}", *rows)
    assert worker.run(sent) == ["succeeded", "succeeded"]
    assert worker.computed == 1, "the second one is a copy"
    found = written(storage, folder)
    assert set(found) == {"A 1.png", "B/2.png"}
    with database.transaction() as session:
        items = session.scalars(sa.select(Item).order_by(Item.position)).all()
    places = [(item.outputs or [{}])[0]["destination"] for item in items]
    assert places == [f"s3://photos/{folder}/{key}" for key in ("A 1.png", "B/2.png")]
    for item, data in zip(items, (found["A 1.png"], found["B/2.png"]), strict=True):
        assert storage.get(storage.bucket, item.result_key or "", 10**7) == data


def test_a_worker_that_lost_its_lease_does_not_replace_what_the_other_one_wrote(
    database: Database, storage: Storage, worker: Worker, other: Worker, folder: str, jpeg: bytes
) -> None:
    job_id, sent = submit(database, storage, jpeg, f"s3://photos/{folder}/x", {"sku": "1"})
    place, marks = ObjectUrl("photos", f"{folder}/x"), []

    def lose_the_lease() -> None:
        expire_leases(database)
        with database.transaction() as session:
            job_store.release_expired_leases(session, max_attempts=3)
        assert other.run(sent) == ["succeeded"]
        marks.append(storage.written_by(place))

    worker.first = lose_the_lease
    (late,) = worker.run(sent)
    assert isinstance(late, LeaseLostError)
    assert marks[0] is not None
    assert storage.written_by(place) == marks[0], "it was not written again"
    assert read(database, job_id).succeeded == 1


def test_a_redo_writes_the_same_key_again_and_takes_no_key_of_another_image(
    database: Database, storage: Storage, worker: Worker, folder: str, jpeg: bytes
) -> None:
    template = f"s3://photos/{folder}/{{sku}}"
    job_id, sent = submit(database, storage, jpeg, template, {"sku": "a"}, {"sku": "b-alpha.png"})
    worker.run(sent)
    before = written(storage, folder)["a"]
    item_id = uuid.UUID(sent[0]["item"])
    options = Options().model_dump(mode="json")

    def redo(**changes: object) -> NewVersion:
        new = NewVersion(
            job_id=new_id(),
            item_id=new_id(),
            made_by=MadeBy.NETWORK,
            options=Options.model_validate({**options, **changes}).model_dump(mode="json"),
        )
        with database.transaction() as session:
            owner = session.get_one(Job, job_id).api_key_id
            job_store.begin_version(session, item_id, new, api_key_id=owner, kept=5)
        return new

    new = redo(background="#00ff00")
    assert worker.run([{"item": str(new.item_id), "job": str(new.job_id)}]) == ["succeeded"]
    assert written(storage, folder)["a"] != before
    with pytest.raises(DestinationCollisionError, match="photo 2"):
        redo(extra_outputs=[{"name": "b-alpha.png"}])
    with pytest.raises(BadResultNameError, match="colour"):
        redo(extra_outputs=[{"name": "{colour}.png"}])


def test_a_row_without_its_value_fails_alone_and_before_it_is_sent(
    database: Database, storage: Storage, worker: Worker, folder: str, jpeg: bytes
) -> None:
    rows = [{"sku": "a"}, {"sku": ""}, {"colour": "red"}, {"sku": "../x"}]
    job_id, sent = submit(database, storage, jpeg, f"s3://photos/{folder}/{{sku}}", *rows)
    assert worker.run(sent) == ["succeeded", None, None, None]
    assert (read(database, job_id).status, read(database, job_id).failed) == ("finished", 3)
    with database.transaction() as session:
        codes = session.scalars(sa.select(Item.error_code).order_by(Item.position)).all()
    assert codes == [None, *3 * ["bad-result-name"]]


def listed(
    database: Database,
    storage: Storage,
    settings: Settings,
    rows: Sequence[dict[str, str]],
    destination: str,
) -> Job:
    """A job whose list was read to its end."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    storage.put("in/rows.jsonl", lines.encode(), "application/jsonl")
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        job_id = job_store.create_job(
            session,
            api_key_id=key.id,
            options=Options().model_dump(mode="json"),
            priority=5,
            labels={},
            source={"kind": "manifest", "object": f"s3://{storage.bucket}/in/rows.jsonl"},
            destination=destination,
        ).id
    expander = Expander(database, storage, settings)
    while expander.expand_page(job_id):
        with database.transaction() as session:
            assert job_store.open_jobs(session, only=job_id) == [], "work has begun"
    return read(database, job_id)


def test_a_collision_on_a_later_page_ends_the_job_before_work_begins(
    database: Database,
    storage: Storage,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.sources.listing.ROWS_PER_PAGE", 2)
    rows = [{"key": f"s3://photos/{n}.jpg", "sku": f"s{n}"} for n in range(5)]
    fine = listed(database, storage, settings, rows, "s3://photos/x/{sku}.{ext}")
    assert (fine.status, fine.total) == (JobStatus.ACCEPTED, 5)
    with database.transaction() as session:
        assert len(job_store.open_jobs(session, only=fine.id)) == 1
        [message, *_] = job_store.publishable(session, fine.id, ahead=1)
    assert message.kwargs()["v"] == "3", "earlier workers leave it to those that write there"

    rows[4]["sku"] = "S1"
    job = listed(database, storage, settings, rows, "s3://photos/x/{sku}.{ext}")
    assert (job.status, job.cancelled, job.total) == (JobStatus.CANCELLED, 4, 4)
    assert job.error_code == "destination-collision"
    for name in ("photo 2 (1.jpg)", "photo 5 (4.jpg)", "s3://photos/x/S1.png"):
        assert name in (job.error_detail or "")


def test_a_placeholder_that_is_no_column_ends_the_job(
    database: Database, storage: Storage, settings: Settings
) -> None:
    rows = [{"key": "s3://photos/1.jpg", "sku": "1"}]
    job = listed(database, storage, settings, rows, "s3://photos/x/{sky}.{ext}")
    assert (job.total, job.error_code) == (0, "unknown-placeholder")
    assert "Did you mean `{sku}`?" in (job.error_detail or "")


def test_the_places_of_a_deleted_job_are_removed_in_pages(
    database: Database, storage: Storage, settings: Settings
) -> None:
    rows = [{"key": f"s3://photos/{n}.jpg"} for n in range(3)]
    job = listed(database, storage, settings, rows, "s3://photos/x/{n}")
    with database.transaction() as session:
        assert job_store.remove_places(session, job.id, limit=2) == 2
        assert job_store.remove_places(session, job.id, limit=2) == 1
        assert session.scalar(sa.select(sa.func.count()).select_from(ResultPlace)) == 0
