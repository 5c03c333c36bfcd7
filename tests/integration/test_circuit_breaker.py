"""While the storage is down, images wait and keep their attempts."""

import threading
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from shared.database import Database
from shared.errors import MattingError, PredictionServerError
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
    others.join(20)
    assert not others.is_alive()
    assert _attempts(database, job_id) == [1, 1, 1]
    assert states(database, job_id) == [ItemStatus.QUEUED, *[ItemStatus.SUCCEEDED] * 2]
    pipeline.close()
    far.close()


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
    others.join(20)
    assert not others.is_alive()
    assert states(database, job_id) == [ItemStatus.QUEUED, *[ItemStatus.SUCCEEDED] * 2]
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
    held.join(20)
    assert not held.is_alive()
    away.close()


def _attempts(database: Database, job_id: object) -> list[int]:
    with database.transaction() as session:
        query = sa.select(Item.attempts).where(Item.job_id == job_id).order_by(Item.position)
        return list(session.scalars(query))
