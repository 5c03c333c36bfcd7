"""A worker's probes: it is alive but not ready while it warms up, and it ends if something
hangs.
"""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.stack.processes import Process, free_port, start
from shared.database import Database
from shared.errors import SetupError
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage
from tests.waiting import eventually
from worker.concurrency.watchdog import Watchdog
from worker.consumer.probes import Probes
from worker.pipeline.in_flight import BatchPredictor
from worker.pipeline.photo_sources import PhotoSources
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.work_items import WorkItem, requested_outputs

DEADLINE_S = 180


def start_worker(settings: Settings, tmp_path: Path, port: int) -> Process:
    assert settings.aws_access_key_id
    assert settings.aws_secret_access_key
    env = os.environ | {
        "MATTING_DATABASE_URL": settings.database_url,
        "MATTING_REDIS_URL": settings.redis_url,
        "MATTING_S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
        "AWS_ACCESS_KEY_ID": settings.aws_access_key_id.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key.get_secret_value(),
        "MATTING_MODEL": settings.model,
        "MATTING_SECOND_MODEL": "none",
        "MATTING_WORKER_METRICS_PORT": str(port),
    }
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-l", "WARNING"]
    return start("worker", command, log=tmp_path / "log", folder=Path.cwd(), env=env)


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[tuple[Process, str]]:
    """A worker that has just started, and the address of its probes."""
    database = Database(settings.database_url, process="tests")
    database.migrate()
    database.close()
    port = free_port()
    process = start_worker(settings, tmp_path, port)
    yield process, f"http://127.0.0.1:{port}"
    process.stop(30)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_error_of_any_kind_at_the_start_ends_the_worker(
    settings: Settings, tmp_path: Path, database_url: str, tiny_model: Path
) -> None:
    """Celery swallows exceptions of signal handlers, so the worker would take messages and fail
    them. In this test the tables are missing, an error without a class of its own.
    """
    changes = {"database_url": database_url, "model": str(tiny_model)}
    process = start_worker(settings.model_copy(update=changes), tmp_path, free_port())
    try:
        assert process.popen.wait(DEADLINE_S) == 2
    finally:
        process.stop(30)
    assert "worker-cannot-start" in (tmp_path / "log").read_text()


def ask(url: str, path: str) -> int:
    try:
        return httpx.get(f"{url}{path}", trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_a_warming_worker_is_alive_and_not_ready(worker: tuple[Process, str]) -> None:
    process, url = worker
    eventually(lambda: ask(url, "/healthz"), "the worker to answer", DEADLINE_S)
    assert httpx.get(f"{url}/readyz").json() == {"status": "warming"}
    lives = []

    def ready() -> bool:
        lives.append(ask(url, "/healthz"))
        return ask(url, "/readyz") == 200

    eventually(ready, "the worker to be ready", DEADLINE_S)
    assert set(lives) == {200}
    families = {
        one.name for one in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    }
    assert {"matting_stage_seconds", "matting_predictor_warm"} <= families
    assert ask(url, "/elsewhere") == 404
    process.popen.terminate()
    assert process.popen.wait(180) == 0


def test_a_process_with_a_hanging_watchdog_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.concurrency.watchdog.MAX_SILENCE_S", 0.5)
    watchdog, port, held = Watchdog(0.1), free_port(), threading.Event()
    probes = Probes(watchdog)
    stop = probes.serve(port)
    url = f"http://127.0.0.1:{port}"
    watchdog.start(lambda *_: held.wait(DEADLINE_S))  # type: ignore[arg-type]
    try:
        with pytest.raises(SetupError, match=f"MATTING_WORKER_METRICS_PORT={port}"):
            Probes(watchdog).serve(port)
        probes.state = "warm"
        assert (ask(url, "/healthz"), ask(url, "/readyz")) == (200, 200)
        with watchdog.watching(None, "anything"):
            eventually(lambda: ask(url, "/healthz") == 503, "the frozen loop to be noticed")
            held.set()
            eventually(lambda: ask(url, "/healthz") == 200, "the loop to turn again")
        probes.state = "stopping"
        assert httpx.get(f"{url}/readyz").json() == {"status": "stopping"}
    finally:
        held.set()
        watchdog.stop()
        stop()


def test_a_hanging_device_is_noticed(settings: Settings, storage: Storage, jpeg: bytes) -> None:
    """The worker keeps renewing the leases, so no other worker would ever take the images."""
    heard, stuck = list[tuple[Any, ...]](), threading.Event()

    def hear(*said: Any) -> None:
        heard.append(said)
        stuck.set()

    def hang(prepared: list[Any]) -> list[Any]:
        assert stuck.wait(DEADLINE_S)
        return [None] * len(prepared)

    device = cast(BatchPredictor, SimpleNamespace(prepare=lambda *_: object(), predict_many=hang))
    storage.put("x.jpg", jpeg, "image/jpeg")
    quick = settings.model_copy(update={"queue_visibility_timeout_s": 1, "image_timeout_s": 30})
    watchdog = Watchdog(quick.image_timeout_s)
    pipeline = Pipeline(device, cast(PhotoSources, storage), quick, watchdog=watchdog)
    watchdog.start(hear)
    try:
        item = WorkItem(
            item_id="1",
            bucket=storage.bucket,
            key="x.jpg",
            options=Options(),
            outputs=requested_outputs(Options(), ["x.png"]),
        )
        pipeline.run_many([item])
    finally:
        watchdog.stop()
        pipeline.close()
    assert heard == [(None, "batch", 1)]
