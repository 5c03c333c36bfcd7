"""The predictor as a client of the real Triton server."""

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.stack.processes import free_port
from deploy.triton.repository import export
from shared.errors import (
    MattingError,
    PredictionServerError,
    TritonModelError,
    TritonUnavailableError,
)
from shared.options import Profile
from shared.settings import Settings
from tests.captured_events import captured_events
from tests.triton import Triton, timed_model, why_no_triton
from tests.waiting import eventually
from worker.imaging.arrays import Alpha
from worker.imaging.prepared import PreparedImage
from worker.inference import triton_server
from worker.inference.predictor import Predictor, load_predictor
from worker.inference.triton_memory import FOLDER

DEPLOY = Path(__file__).parents[2] / "deploy"
REASON = why_no_triton()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no Triton server: {REASON}")

of_make_faults = pytest.mark.skipif(
    "TRITON_FAULTS" not in os.environ, reason="takes longer; part of make faults"
)

SHAPES = [(300, 400), (400, 300), (300, 300), (200, 320), (256, 256)]


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the same tiny network under several names."""
    folder = tmp_path_factory.mktemp("triton-models")
    for name in ("tiny", "timed", "killed"):
        shutil.copytree(tiny_model, folder / name)
    return folder


@pytest.fixture(scope="module")
def triton(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A server with the tiny network on Paddle, and with a stand-in that takes 30 ms."""
    folder = tmp_path_factory.mktemp("triton")
    export(folder / "repository", _settings(models / "tiny"), "cpu")
    timed_model(folder / "repository", models / "timed", ms=30)
    server = Triton(folder, folder / "repository", "tiny", "timed")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def connect(triton: Triton, models: Path) -> Iterator[Callable[..., Predictor]]:
    """Loads predictors that use the server, each once: they check it with the plain CPU first."""
    opened: dict[str, Predictor] = {}

    def load(model: str, **changed: object) -> Predictor:
        key = f"{model} {changed}"
        if key not in opened:
            opened[key] = load_predictor(_settings(models / model, triton.url, **changed))
        return opened[key]

    yield load
    for predictor in opened.values():
        predictor.close()


def _settings(model: Path, url: str | None = None, **changed: object) -> Settings:
    return Settings.model_validate(
        {"model": str(model), "device": "triton" if url else "cpu", "triton_url": url, **changed}
    )


def _photos(predictor: Predictor, count: int) -> list[PreparedImage]:
    random = np.random.default_rng(20)
    photos = [
        random.integers(0, 256, (*SHAPES[number % len(SHAPES)], 3), np.uint8)
        for number in range(count)
    ]
    return [predictor.prepare(photo, Profile.FAST) for photo in photos]


def _alphas(predictor: Predictor, prepared: list[PreparedImage]) -> list[Alpha]:
    found: list[NDArray[np.float32]] = []
    for one in predictor.predict_many(prepared):
        assert not isinstance(one, MattingError), one.message
        found.append(one)
    return found


@pytest.mark.parametrize("shared", [True, False], ids=["shared memory", "over gRPC"])
def test_alphas_are_those_of_the_direct_predictor(
    triton: Triton, models: Path, shared: bool
) -> None:
    there = load_predictor(_settings(models / "tiny", triton.url, triton_shared_memory=shared))
    here = load_predictor(_settings(models / "tiny"))
    photos = _photos(here, 11)
    mirrored = here.prepare(np.full((90, 160, 3), 7, np.uint8), Profile.EXACT)
    for expected, alpha in zip(
        _alphas(here, [*photos, mirrored]), _alphas(there, [*photos, mirrored]), strict=True
    ):
        assert np.abs(expected - alpha).max() <= 2**-12  # float16 rounds
    here.close()
    with triton.client() as client:
        regions = client.get_system_shared_memory_status().regions
        assert bool(regions) is shared
    there.close()
    assert there.describe()["configuration"] == "triton"


def test_no_shared_memory_is_left_and_that_of_dead_workers_is_given_back(
    triton: Triton, models: Path
) -> None:
    path = FOLDER / "matting-4194399-aa"  # beyond the largest process id
    path.write_bytes(bytes(4096))
    with triton.client() as client:
        client.register_system_shared_memory(path.name, f"/{path.name}", 4096)
        path.unlink()
        worker = load_predictor(_settings(models / "tiny", triton.url))
        _alphas(worker, _photos(worker, 4))
        held = client.get_system_shared_memory_status().regions
        assert held
        assert path.name not in held
        worker.close()
        assert not client.get_system_shared_memory_status().regions
    assert not list(FOLDER.glob(f"matting-{os.getpid()}-*"))


def test_the_metrics_in_alerts_and_dashboard_exist(triton: Triton) -> None:
    text = "".join(
        (DEPLOY / name).read_text()
        for name in ("prometheus/alerts.yml", "grafana/dashboards/matting.json")
    )
    named = set(re.findall(r"\bnv_\w+", text))
    known = set(re.findall(r"# TYPE (nv_\w+)", httpx.get(triton.metrics_url).text))
    assert {one for one in named - known if not one.startswith("nv_gpu_")} == set()
    assert len(named) >= 4


def test_requests_of_several_workers_share_a_batch(
    connect: Callable[..., Predictor], triton: Triton
) -> None:
    # Each has one request with one image in flight, so a batch of two is of two workers. While one
    # is computed, two wait; two workers would come in turn.
    workers = [connect("timed", predict_streams=1, batch_size=size) for size in (8, 9, 10)]
    before, stop = triton.batches("timed").get(2, 0), threading.Event()

    def work(worker: Predictor) -> None:
        while not stop.is_set():
            _alphas(worker, _photos(worker, 1))

    with ThreadPoolExecutor(len(workers)) as pool:
        working = [pool.submit(work, one) for one in workers]
        try:
            eventually(
                lambda: (
                    triton.batches("timed").get(2, 0) > before or any(one.done() for one in working)
                ),
                "a batch of two images",
            )
        finally:
            stop.set()
        for one in working:
            one.result()
    assert triton.batches("timed").get(2, 0) > before


@of_make_faults
def test_a_server_that_restarts_costs_no_image(
    connect: Callable[..., Predictor], triton: Triton
) -> None:
    worker = connect("timed", triton_timeout_s=60, lease_s=90)
    results: list[list[Alpha]] = []

    def work() -> None:
        for _ in range(6):
            results.append(_alphas(worker, _photos(worker, 10)))

    working = threading.Thread(target=work)
    working.start()
    eventually(lambda: results, "the first batch")
    triton.kill()
    triton.restart()
    working.join()
    assert len(results) == 6


def test_a_new_version_is_loaded_without_a_failed_image(
    connect: Callable[..., Predictor], triton: Triton, models: Path
) -> None:
    worker = connect("tiny")
    done = 0
    stop = threading.Event()

    def work() -> None:
        nonlocal done
        while not stop.is_set():
            done += len(_alphas(worker, _photos(worker, 10)))

    own = triton.repository / "tiny"
    with ThreadPoolExecutor(1) as pool, triton.client() as client:
        working = pool.submit(work)
        eventually(lambda: done, "the first batch")
        (own / "1" / "model.py").write_text((own / "1" / "model.py").read_text() + "# old\n")
        export(triton.repository, _settings(models / "tiny"), "cpu")
        client.load_model("tiny")
        before = done
        eventually(lambda: done > before, "a batch of the new version")
        stop.set()
        working.result()
        assert list(client.get_model_metadata("tiny").versions) == ["2"]


@of_make_faults
def test_another_model_is_refused_at_the_start_and_pauses_the_work_later(
    connect: Callable[..., Predictor], triton: Triton, models: Path, tmp_path: Path
) -> None:
    worker = connect("timed", triton_timeout_s=1)
    other = shutil.copytree(models / "tiny", tmp_path / "timed")
    description = (other / "deploy.yaml").read_text().replace("128", "160")
    (other / "deploy.yaml").write_text(description)
    with pytest.raises(TritonModelError, match="another model"):
        load_predictor(_settings(other, triton.url))
    with triton.client() as client:
        timed_model(triton.repository, other, ms=30)
        client.load_model("timed")
        [result] = worker.predict_many(_photos(worker, 1))
        assert isinstance(result, PredictionServerError)
        assert "another model" in result.detail
        with pytest.raises(PredictionServerError):
            worker.ping()
        timed_model(triton.repository, models / "timed", ms=30)
        client.load_model("timed")
    worker.ping()
    _alphas(worker, _photos(worker, 3))


def test_a_model_with_other_tensors_is_refused(triton: Triton, models: Path) -> None:
    config = triton.repository / "timed" / "config.pbtxt"
    before = config.read_text()
    with triton.client() as client:
        config.write_text(before.replace("dims: [ 3, -1, -1 ]", "dims: [ 3, 128, -1 ]"))
        client.load_model("timed")
        with pytest.raises(TritonModelError, match=r"has pixels UINT8 \[-1, 3, 128, -1\]"):
            load_predictor(_settings(models / "timed", triton.url))
        config.write_text(before)
        client.load_model("timed")


@of_make_faults
def test_a_slow_server_costs_an_attempt_in_time(
    connect: Callable[..., Predictor], triton: Triton, models: Path
) -> None:
    worker = connect("timed", triton_timeout_s=1)
    with triton.client() as client:
        timed_model(triton.repository, models / "timed", ms=4_000)
        client.load_model("timed")
        started = time.monotonic()
        results = worker.predict_many(_photos(worker, 40))
        assert {type(one) for one in results} == {PredictionServerError}
        # not one time limit for each of the requests: those after the first know of the outage
        assert time.monotonic() - started < 15
        with pytest.raises(PredictionServerError):
            worker.ping()  # so no further image meets it
        timed_model(triton.repository, models / "timed", ms=30)
        client.load_model("timed")
    worker.ping()
    _alphas(worker, _photos(worker, 3))


@of_make_faults
def test_a_full_queue_is_waited_for(
    connect: Callable[..., Predictor], triton: Triton, models: Path
) -> None:
    worker = connect("timed", triton_timeout_s=60, lease_s=90)
    policy = "dynamic_batching {\n  default_queue_policy { max_queue_size: 1 }"
    with triton.client() as client:
        timed_model(
            triton.repository, models / "timed", ms=30, change=("dynamic_batching {", policy)
        )
        client.load_model("timed")
        with captured_events(triton_server) as lines:
            assert len(_alphas(worker, _photos(worker, 60))) == 60
        assert any("maximum queue size" in str(line.get("detail")) for line in lines)
        timed_model(triton.repository, models / "timed", ms=30)
        client.load_model("timed")


def test_too_little_memory_halves_the_batch(
    connect: Callable[..., Predictor], triton: Triton, models: Path
) -> None:
    with triton.client() as client:
        large = ("max_batch_size: 8", "max_batch_size: 64")
        timed_model(triton.repository, models / "timed", ms=0, most=2, change=large)
        client.load_model("timed")
        worker = connect("timed", triton_timeout_s=2)
        assert worker.batch_sizes == [1, 2, 4, 8]
        same = _photos(worker, 1) * 8
        assert len(_alphas(worker, same)) == 8
        assert worker.batch_sizes == [1, 2]
        timed_model(triton.repository, models / "timed", ms=30)
        client.load_model("timed")


def test_a_server_that_is_not_there_ends_the_start(models: Path) -> None:
    nowhere = f"grpc://127.0.0.1:{free_port()}"
    with pytest.raises(TritonUnavailableError, match="did not answer: UNAVAILABLE"):
        load_predictor(_settings(models / "tiny", nowhere, triton_timeout_s=0.5))


@of_make_faults
def test_a_server_with_tls_is_checked_against_its_authority(models: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    timed_model(tmp_path / "repository", models / "timed", ms=0)
    options = ["--grpc-use-ssl", "true", "--grpc-server-key", str(key)]
    options += ["--grpc-server-cert", str(certificate)]
    server = Triton(tmp_path, tmp_path / "repository", "timed", options=options)
    url = f"grpcs://localhost:{server.grpc_port}"
    trusted = {"triton_ca_file": certificate, "triton_token": "for-a-proxy"}
    worker = load_predictor(_settings(models / "timed", url, **trusted))
    _alphas(worker, _photos(worker, 5))
    worker.close()
    with pytest.raises(TritonUnavailableError):
        load_predictor(_settings(models / "timed", url, triton_timeout_s=1))
    server.stop()
