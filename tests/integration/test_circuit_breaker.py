"""While the storage is down, images wait and keep their attempts."""

import threading
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from shared.database import Database
from shared.errors import ImageTimeoutError, MattingError, PredictionServerError, PredictorError
from shared.jobs import ItemStatus
from shared.models import Item
from shared.settings import Settings
from shared.storage import Storage
from tests.faults.proxy import Proxy
from tests.integration.test_batch_runner import Threshold, states, submit
from worker.consumer import circuit_breaker as module
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.imaging.arrays import Alpha
from worker.imaging.prepared import PreparedImage
from worker.pipeline.pipeline import Pipeline


@pytest.fixture
def proxy(settings: Settings) -> Iterator[Proxy]:
    address = urlsplit(settings.s3_endpoint_url or "")
    assert address.hostname
    assert address.port
    proxy = Proxy((address.hostname, address.port), seed=1)
    yield proxy
    proxy.close()


def test_an_outage_costs_one_attempt_of_one_batch(
    database: Database,
    storage: Storage,
    settings: Settings,
    proxy: Proxy,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.05)
    through = settings.model_copy(
        update={"s3_endpoint_url": f"http://127.0.0.1:{proxy.port}", "retry_base_s": 60}
    )
    job_id, messages = submit(database, storage, {"a.jpg": jpeg, "b.jpg": jpeg, "c.jpg": jpeg})
    far = Storage(through)
    pipeline = Pipeline(Threshold(), far, through)
    circuit_breaker = CircuitBreaker(far.ping)
    runner = BatchRunner(database, pipeline, through, "tests-1", circuit_breaker)
    proxy.weather.down = True
    proxy.reset_all()
    runner.run_many(messages[:1])
    others = threading.Thread(target=runner.run_many, args=(messages[1:],))
    others.start()
    others.join(0.5)
    assert others.is_alive()
    assert _attempts(database, job_id) == [1, 0, 0]
    proxy.weather.down = False
    others.join(180)
    assert not others.is_alive()
    assert _attempts(database, job_id) == [1, 1, 1]
    assert states(database, job_id) == [ItemStatus.QUEUED, *[ItemStatus.SUCCEEDED] * 2]
    pipeline.close()
    far.close()


def test_a_worker_that_stops_in_an_outage_takes_no_attempt_of_what_waits(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg, "b.jpg": jpeg, "c.jpg": jpeg})
    slow = settings.model_copy(update={"retry_base_s": 60})
    predictor = OnServer()
    pipeline = Pipeline(predictor, storage, slow)
    breakers = CircuitBreaker(storage.ping), CircuitBreaker(predictor.ping)
    runner = BatchRunner(database, pipeline, slow, "tests-1", *breakers)
    runner.run_many(messages[:1])
    results: list[object] = []
    others = threading.Thread(target=lambda: results.extend(runner.run_many(messages[1:])))
    others.start()
    for breaker in breakers:
        breaker.stop()
    others.join(180)
    assert results == [None, None]
    assert _attempts(database, job_id) == [1, 0, 0]
    assert states(database, job_id) == [ItemStatus.QUEUED] * 3
    pipeline.close()


class OnServer(Threshold):
    """A predictor whose server is away at first."""

    away = True

    def ping(self) -> None:
        if self.away:
            raise PredictionServerError()

    def predict_many(self, prepared: Sequence[PreparedImage]) -> list[Alpha | MattingError]:
        return (
            [PredictionServerError() for _ in prepared]
            if self.away
            else super().predict_many(prepared)
        )


def test_an_outage_of_the_prediction_server_costs_one_attempt_of_one_batch(
    database: Database,
    storage: Storage,
    settings: Settings,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.05)
    slow = settings.model_copy(update={"retry_base_s": 60})
    job_id, messages = submit(database, storage, {"a.jpg": jpeg, "b.jpg": jpeg, "c.jpg": jpeg})
    predictor = OnServer()
    pipeline = Pipeline(predictor, storage, slow)
    breakers = CircuitBreaker(storage.ping), CircuitBreaker(predictor.ping)
    runner = BatchRunner(database, pipeline, slow, "tests-1", *breakers)
    runner.run_many(messages[:1])
    others = threading.Thread(target=runner.run_many, args=(messages[1:],))
    others.start()
    others.join(0.5)
    assert others.is_alive()
    assert _attempts(database, job_id) == [1, 0, 0]
    predictor.away = False
    others.join(180)
    assert not others.is_alive()
    assert states(database, job_id) == [ItemStatus.QUEUED, *[ItemStatus.SUCCEEDED] * 2]
    pipeline.close()


class OnLostDevice(Threshold):
    """A predictor whose device fails for every image, and does not come back."""

    lost = True

    def ping(self) -> None:
        if self.lost:
            raise PredictorError("The device failed: illegal address")

    def predict_many(self, prepared: Sequence[PreparedImage]) -> list[Alpha | MattingError]:
        if self.lost:
            return [PredictorError() for _ in prepared]
        return super().predict_many(prepared)


def test_a_lost_device_costs_one_attempt_of_one_batch_and_is_given_up(
    database: Database,
    storage: Storage,
    settings: Settings,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(module, "GIVE_UP_S", 0.1)
    slow = settings.model_copy(update={"retry_base_s": 60})
    job_id, messages = submit(database, storage, {"a.jpg": jpeg, "b.jpg": jpeg, "c.jpg": jpeg})
    predictor = OnLostDevice()
    pipeline = Pipeline(predictor, storage, slow)
    given_up: list[MattingError] = []

    def give_up(error: MattingError) -> None:  # a worker's process ends here
        given_up.append(error)
        predictor.lost = False

    breakers = CircuitBreaker(storage.ping), CircuitBreaker(predictor.ping, give_up)
    runner = BatchRunner(database, pipeline, slow, "tests-1", *breakers)
    runner.run_many(messages[:1])
    runner.run_many(messages[1:])
    assert [error.code for error in given_up] == ["prediction-failed"]
    assert _attempts(database, job_id) == [1, 1, 1]
    assert states(database, job_id) == [ItemStatus.QUEUED, *[ItemStatus.SUCCEEDED] * 2]
    pipeline.close()


class Waiting(Threshold):
    """A predictor that computes until it may end."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may_end = threading.Event(), threading.Event()

    def predict_many(self, prepared: Sequence[PreparedImage]) -> list[Alpha | MattingError]:
        self.begun.set()
        assert self.may_end.wait(180)
        return super().predict_many(prepared)


class InFlight:
    """An image that a worker's thread predicts until it may end."""

    def __init__(
        self, database: Database, storage: Storage, settings: Settings, jpeg: bytes
    ) -> None:
        self.job_id, messages = submit(database, storage, {"a.jpg": jpeg})
        self.predictor = Waiting()
        self.pipeline = Pipeline(self.predictor, storage, settings)
        breaker = CircuitBreaker(storage.ping)
        self.runner = BatchRunner(database, self.pipeline, settings, "tests-1", breaker)
        self.thread = threading.Thread(target=self.runner.run_many, args=(messages,))
        self.thread.start()
        assert self.predictor.begun.wait(180)


def test_what_is_in_flight_goes_back_uncounted_when_the_process_must_end(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes
) -> None:
    work = InFlight(database, storage, settings, jpeg)
    work.runner.give_back_all()
    assert states(database, work.job_id) == [ItemStatus.QUEUED]
    assert _attempts(database, work.job_id) == [0]
    work.predictor.may_end.set()
    work.thread.join(180)
    assert states(database, work.job_id) == [ItemStatus.QUEUED], "its lease is not this worker's"
    work.pipeline.close()


def test_what_is_in_flight_when_its_threads_end_is_tried_again(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes
) -> None:
    work = InFlight(database, storage, settings, jpeg)
    work.pipeline.close()  # Celery's loop broke, for example
    work.predictor.may_end.set()
    work.thread.join(180)
    assert states(database, work.job_id) == [ItemStatus.QUEUED]


def test_the_others_of_an_image_that_hangs_go_back_uncounted(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes
) -> None:
    job_id, messages = submit(database, storage, {"a.jpg": jpeg, "b.jpg": jpeg, "c.jpg": jpeg})
    predictor = Waiting()
    pipeline = Pipeline(predictor, storage, settings)
    runner = BatchRunner(database, pipeline, settings, "tests-1", CircuitBreaker(storage.ping))
    working = threading.Thread(target=runner.run_many, args=(messages,))
    working.start()
    assert predictor.begun.wait(180)
    guilty = messages[1]["item"]
    runner.fail_in_flight(guilty, ImageTimeoutError())
    assert guilty not in map(str, runner.held)
    runner.give_back_all()
    ended = [ItemStatus.QUEUED, ItemStatus.FAILED, ItemStatus.QUEUED]
    assert states(database, job_id) == ended
    assert _attempts(database, job_id) == [0, 1, 0]
    predictor.may_end.set()
    working.join(180)
    assert states(database, job_id) == ended
    pipeline.close()


def test_a_stopping_worker_does_not_wait_for_the_end_of_the_outage(
    settings: Settings,
) -> None:
    away = Storage(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))
    circuit_breaker = CircuitBreaker(away.ping)
    circuit_breaker.trip()
    held = threading.Thread(target=circuit_breaker.wait_until_closed)
    held.start()
    circuit_breaker.stop()
    held.join(180)
    assert not held.is_alive()
    away.close()


def _attempts(database: Database, job_id: object) -> list[int]:
    with database.transaction() as session:
        query = sa.select(Item.attempts).where(Item.job_id == job_id).order_by(Item.position)
        return list(session.scalars(query))
