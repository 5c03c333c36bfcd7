"""A batch of messages is claimed, processed and recorded, on both databases."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from shared import job_store
from shared.database import Database, Session
from shared.errors import DatabaseError, InvalidMessageError, MattingError, StorageError
from shared.job_store import NewItem, Settlement, SettlementState
from shared.jobs import ItemStatus, JobStatus
from shared.messages import READ_VERSIONS
from shared.models import Item, Job
from shared.options import Profile
from shared.settings import Settings
from shared.storage import Storage
from tests.integration.stored_jobs import expire_leases
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.consumer.settlement import backoff_s
from worker.consumer.unrecorded import UnrecordedItems
from worker.imaging.arrays import Image
from worker.imaging.prepared import PreparedImage
from worker.pipeline.in_flight import InFlightImage
from worker.pipeline.pipeline import Pipeline


class Threshold:
    """A predictor without a network: red pixels are the subject."""

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        return PreparedImage(image, (("resize", (image.shape[0], image.shape[1])),))

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        seen = [one.image.astype(np.float32) for one in prepared]
        return [(one[..., 0] - one[..., 1] > 76).astype(np.float32) for one in seen]


class LosesAnAnswer:
    """The real database. It commits the first transaction, but the caller gets an error."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lost = False

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with self._database.transaction() as session:
            yield session
        if not self._lost:
            self._lost = True
            raise DatabaseError("the connection broke within the commit")


class LeavesAfterTheClaim:
    """The real database. `transactions` counts from 0; from the second one on it is away. None
    switches this off.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.transactions: int | None = None

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        if self.transactions is not None:
            self.transactions += 1
            if self.transactions > 1:
                raise DatabaseError("away")
        with self._database.transaction() as session:
            yield session


class Flaky:
    """The real storage. Its first `put` calls fail."""

    def __init__(self, storage: Storage, failures: int) -> None:
        self._storage, self.failures = storage, failures

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        return self._storage.get(bucket, key, max_bytes)

    def put(self, key: str, data: bytes, content_type: str) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageError
        self._storage.put(key, data, content_type)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(update={"retry_base_s": 0.001, "max_attempts": 3})


@pytest.fixture
def flaky(storage: Storage) -> Flaky:
    return Flaky(storage, 0)


@pytest.fixture
def runner(
    database: Database, storage: Storage, flaky: Flaky, quick: Settings
) -> Iterator[BatchRunner]:
    pipeline = Pipeline(Threshold(), flaky, quick)
    yield BatchRunner(database, pipeline, quick, "tests-1", CircuitBreaker(storage.ping))
    pipeline.close()


def submit(
    database: Database, storage: Storage, files: dict[str, bytes]
) -> tuple[uuid.UUID, list[dict[str, str]]]:
    """Submit a job of these files. Returns its messages."""
    for name, data in files.items():
        storage.put(f"in/{name}", data, "image/jpeg")
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        job = job_store.create_job(
            session, api_key_id=key.id, options={}, priority=5, labels={}, source={"kind": "keys"}
        )
        job_store.add_items(
            session,
            job.id,
            [NewItem(name=name, source=f"s3://{storage.bucket}/in/{name}") for name in files],
        )
        job_store.finish_expansion(session, job.id)
        ids = session.scalars(
            sa.select(Item.id).where(Item.job_id == job.id).order_by(Item.position)
        )
        return job.id, [{"item": str(one), "job": str(job.id), "file": "x"} for one in ids]


def states(database: Database, job_id: uuid.UUID) -> list[ItemStatus]:
    with database.transaction() as session:
        return list(
            session.scalars(
                sa.select(Item.status).where(Item.job_id == job_id).order_by(Item.position)
            )
        )


def test_one_corrupt_image_does_not_fail_its_batch(
    database: Database, storage: Storage, runner: BatchRunner, jpeg: bytes
) -> None:
    job_id, messages = submit(
        database, storage, {"a.jpg": jpeg, "b.jpg": jpeg[:900], "c.jpg": b"", "d.jpg": jpeg}
    )
    results = runner.run_many(messages)
    assert [getattr(one, "code", one) for one in results] == [
        "succeeded",
        "truncated-image",
        "empty-file",
        "succeeded",
    ]
    assert [one.value for one in states(database, job_id)] == [
        "succeeded",
        "failed",
        "failed",
        "succeeded",
    ]
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.succeeded, job.failed) == (JobStatus.FINISHED, 2, 2)
        assert job.pixels == 2 * 400 * 300
        keys = session.scalars(sa.select(Item.result_key).where(Item.result_key.is_not(None)))
        for key in keys:
            assert key is not None
            assert storage.get(storage.bucket, key, 10**7).startswith(b"\x89PNG")
    assert runner.held == []


def test_an_image_that_can_t_be_recorded_takes_no_other_with_it(
    database: Database,
    storage: Storage,
    runner: BatchRunner,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id, messages = submit(database, storage, dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), jpeg))
    record = job_store.finish_many

    def breaks(session: Session, settlements: Sequence[Settlement]) -> list[SettlementState]:
        if any(str(one.claim.item_id) == messages[1]["item"] for one in settlements):
            raise ValueError("a row that no code can use")
        return record(session, settlements)

    monkeypatch.setattr(job_store, "finish_many", breaks)
    first, second, third = runner.run_many(messages)
    assert (first, third) == ("succeeded", "succeeded")
    assert isinstance(second, MattingError)
    assert states(database, job_id) == [
        ItemStatus.SUCCEEDED,
        ItemStatus.RUNNING,  # until its lease expires, as if its worker had died
        ItemStatus.SUCCEEDED,
    ]
    assert runner.held == []


@pytest.mark.parametrize("slow", [False, True])
def test_a_pipeline_that_fails_costs_only_the_image_that_is_the_reason(
    database: Database,
    storage: Storage,
    settings: Settings,
    jpeg: bytes,
    slow: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg, "b.jpg": jpeg, "c.jpg": jpeg})
    pipeline = Pipeline(Threshold(), storage, settings)
    monkeypatch.setattr(pipeline, "_predict", _fails_for(messages[1]["item"], pipeline._predict))
    runner = BatchRunner(database, pipeline, settings, "tests-1", CircuitBreaker(storage.ping))
    if slow:
        runner.run_each(messages, lambda *_: None, urgent=False)
    else:
        runner.run_many(messages)
    assert states(database, job_id) == [
        ItemStatus.SUCCEEDED, ItemStatus.FAILED, ItemStatus.SUCCEEDED,
    ]  # fmt: skip
    assert runner.held == []
    pipeline.close()


def _fails_for(
    item_id: str, work: Callable[[list[InFlightImage]], None]
) -> Callable[[list[InFlightImage]], None]:
    def failing(images: list[InFlightImage]) -> None:
        if any(one.item.item_id == item_id for one in images):
            raise ValueError("a bug")
        work(images)

    return failing


def test_a_message_that_comes_twice_does_nothing(
    database: Database, storage: Storage, runner: BatchRunner, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    assert runner.run_many(messages * 2) == ["succeeded", "succeeded"]
    assert runner.run_many(messages) == [None]
    with database.transaction() as session:
        assert session.get_one(Job, job_id).succeeded == 1
        assert session.scalars(sa.select(Item.attempts)).all() == [1]


def test_invalid_messages_do_not_affect_their_batch(
    database: Database, storage: Storage, runner: BatchRunner, jpeg: bytes
) -> None:
    _job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    unknown = {"item": str(uuid.uuid4()), "job": str(uuid.uuid4())}
    first, second, third = runner.run_many([{"x": "y"}, *messages, unknown])
    assert isinstance(first, InvalidMessageError)
    assert (second, third) == ("succeeded", None)


def test_a_message_of_a_newer_version_waits_for_a_worker_that_reads_it(
    database: Database, storage: Storage, runner: BatchRunner, jpeg: bytes
) -> None:
    _job_id, [message] = submit(database, storage, {"a.jpg": jpeg})
    newer = str(max(map(int, READ_VERSIONS)) + 1)
    (refused,) = runner.run_many([message | {"v": newer}])
    assert isinstance(refused, InvalidMessageError)
    with database.transaction() as session:
        assert session.scalars(sa.select(Item.status)).all() == ["queued"]
    older = {name: value for name, value in message.items() if name != "v"}
    assert runner.run_many([older | {"of a later minor version": "1"}]) == ["succeeded"]


def test_a_failed_write_to_the_storage_is_retried(
    database: Database, storage: Storage, runner: BatchRunner, flaky: Flaky, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    flaky.failures = 1
    (error,) = runner.run_many(messages)
    assert isinstance(error, StorageError)
    assert states(database, job_id) == [ItemStatus.QUEUED]
    assert runner.run_many(messages) == ["succeeded"]


def test_after_the_last_attempt_the_item_fails_with_the_last_error(
    database: Database, storage: Storage, runner: BatchRunner, flaky: Flaky, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    flaky.failures = 99
    for _ in range(4):
        runner.run_many(messages)
    assert states(database, job_id) == [ItemStatus.FAILED]
    with database.transaction() as session:
        item = session.scalars(sa.select(Item)).one()
        assert (item.attempts, item.error_code) == (3, "storage-unavailable")
        assert session.get_one(Job, job_id).status is JobStatus.FINISHED


def test_a_cancelled_job_is_not_processed(
    database: Database, storage: Storage, runner: BatchRunner, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    with database.transaction() as session:
        job_store.cancel_job(session, job_id)
    assert runner.run_many(messages) == [None]


def tries(database: Database, job_id: uuid.UUID) -> list[tuple[ItemStatus, int, int]]:
    with database.transaction() as session:
        rows = session.execute(
            sa.select(Item.status, Item.attempts, Item.deaths).where(Item.job_id == job_id)
        )
        return [(row.status, row.attempts, row.deaths) for row in rows]


def test_waits_between_attempts_double_up_to_a_limit(settings: Settings) -> None:
    base = settings.model_copy(update={"retry_base_s": 2, "retry_max_s": 30})
    for attempt, ceiling in ((1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (50, 30)):
        waits = [backoff_s(attempt, base) for _ in range(50)]
        assert ceiling / 2 <= min(waits)
        assert max(waits) <= ceiling


def test_a_claim_whose_commit_was_not_confirmed_is_given_back(
    database: Database, storage: Storage, quick: Settings, jpeg: bytes
) -> None:
    """The connection broke during the commit. No worker runs the image, so none may renew its
    lease.
    """
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    pipeline = Pipeline(Threshold(), storage, quick)
    deaf = cast(Database, LosesAnAnswer(database))
    runner = BatchRunner(deaf, pipeline, quick, "tests-1", CircuitBreaker(storage.ping))
    runner.run_many(messages)
    assert states(database, job_id) == [ItemStatus.RUNNING], "claimed, as far as anyone can see"
    assert runner.held == []
    runner.give_back()
    assert tries(database, job_id) == [(ItemStatus.QUEUED, 0, 0)]
    runner.run_many(messages)
    assert states(database, job_id) == [ItemStatus.SUCCEEDED]
    pipeline.close()


class Meanwhile:
    """The real database. Something else happens behind its next transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.then: Callable[[], None] = lambda: None

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with self._database.transaction() as session:
            yield session
        then, self.then = self.then, lambda: None
        then()


def test_an_item_that_is_remembered_while_others_are_given_back_is_not_forgotten(
    database: Database, storage: Storage, jpeg: bytes
) -> None:
    """It was claimed again by the same worker, which could not record it either."""
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    pair = uuid.UUID(messages[0]["item"]), job_id
    other = Meanwhile(database)
    items = UnrecordedItems(cast(Database, other), "tests-1")

    def claim() -> None:
        with database.transaction() as session:
            ids = [pair[0]]
            job_store.claim_many(session, ids, job_ids=[job_id], owner="tests-1", lease_s=60)
        items.add([pair], confirmed=True)

    claim()
    other.then = claim
    items.give_back(tuple)
    assert states(database, job_id) == [ItemStatus.RUNNING]
    items.give_back(tuple)
    assert tries(database, job_id) == [(ItemStatus.QUEUED, 0, 0)]


def test_two_threads_that_give_back_at_once_take_no_earlier_death_from_an_image(
    database: Database, storage: Storage, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    pair = uuid.UUID(messages[0]["item"]), job_id
    other = Meanwhile(database)
    items = UnrecordedItems(cast(Database, other), "tests-1")
    with database.transaction() as session:
        job_store.claim_many(session, [pair[0]], job_ids=[job_id], owner="tests-1", lease_s=60)
        session.execute(sa.update(Item).where(Item.id == pair[0]).values(deaths=1))
    items.add([pair], confirmed=True)
    second = threading.Thread(target=items.give_back, args=[tuple])

    def give_back_too() -> None:
        second.start()
        second.join(1)  # as a rule it waits for the first one

    other.then = give_back_too
    items.give_back(tuple)
    second.join(180)
    assert tries(database, job_id) == [(ItemStatus.QUEUED, 0, 1)]


def test_an_item_that_is_held_again_is_not_given_back(
    database: Database, storage: Storage, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    pair = uuid.UUID(messages[0]["item"]), job_id
    items = UnrecordedItems(database, "tests-1")
    with database.transaction() as session:
        ids = [pair[0]]
        job_store.claim_many(session, ids, job_ids=[job_id], owner="tests-1", lease_s=60)
    items.add([pair], confirmed=False)
    items.give_back(lambda: ids)
    assert states(database, job_id) == [ItemStatus.RUNNING]


@pytest.mark.parametrize("taken_back", [False, True])
def test_outages_of_the_database_use_up_no_attempts(
    database: Database,
    storage: Storage,
    quick: Settings,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    taken_back: bool,
) -> None:
    """The database is away for longer than a batch waits to be recorded, five times. In one case
    another process has meanwhile taken back the lease.
    """
    monkeypatch.setattr("worker.consumer.database_retries.DATABASE_RETRY_LIMIT_S", 0.1)
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})
    pipeline = Pipeline(Threshold(), storage, quick)
    leaving = LeavesAfterTheClaim(database)
    runner = BatchRunner(
        cast(Database, leaving), pipeline, quick, "tests-1", CircuitBreaker(storage.ping)
    )
    for outage in range(1, 6):
        leaving.transactions = 0
        with pytest.raises(DatabaseError):
            runner.run_many(messages)
        leaving.transactions = None
        if taken_back:
            expire_leases(database)
            with database.transaction() as session:
                job_store.release_expired_leases(session, max_attempts=99)
        runner.give_back()
        tried = outage if taken_back else 0
        assert tries(database, job_id) == [(ItemStatus.QUEUED, tried, 0)]
    runner.run_many(messages)
    assert states(database, job_id) == [ItemStatus.SUCCEEDED]
    pipeline.close()


def test_a_paused_worker_s_result_counts_and_its_death_does_not(
    database: Database, storage: Storage, quick: Settings, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg})

    class Pauses(Threshold):
        """Another process takes back the lease while this worker computes."""

        def predict_many(
            self, prepared: Sequence[PreparedImage]
        ) -> list[NDArray[np.float32] | MattingError]:
            expire_leases(database)
            with database.transaction() as session:
                job_store.release_expired_leases(session, max_attempts=3)
            assert tries(database, job_id) == [(ItemStatus.QUEUED, 1, 1)]
            return super().predict_many(prepared)

    pipeline = Pipeline(Pauses(), storage, quick)
    runner = BatchRunner(database, pipeline, quick, "tests-1", CircuitBreaker(storage.ping))
    assert isinstance(runner.run_many(messages)[0], MattingError)
    assert tries(database, job_id) == [(ItemStatus.QUEUED, 1, 0)]
    pipeline.close()
