"""One worker a device: which devices, what each worker gets, restarts, and one port for all."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deploy.stack import device_workers
from deploy.stack.device_probes import merged
from deploy.stack.device_workers import DeviceWorker, devices_of, workers_of
from deploy.stack.processes import free_port
from deploy.stack.stack import Stack
from shared.errors import EngineUnavailableError, SetupError, WrongSettingError
from shared.settings import Settings
from tests.waiting import eventually
from worker.inference.device_count import count_gpus

CHILD = r"""
import http.server, os, signal, sys, time
port, device = int(os.environ["MATTING_WORKER_METRICS_PORT"]), os.environ["MATTING_DEVICE"]
assert os.environ["MATTING_DEVICES"] == ""
def say(words):  # in one write, because two processes share the log
    os.write(1, f"{words} {device}\n".encode())
def stop(*_):
    say("finished its batch")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die": os._exit(3)
        ready = self.path != "/readyz" or not os.path.exists(device.replace(":", "-"))
        text = '{"status": "warm"}' if ready else '{"status": "warming"}'
        if self.path == "/metrics":
            text = '# TYPE matting_images counter\nmatting_images_total{status="done"} 5\n'
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *_): pass
say("started")
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

PARENT = """
import sys
from deploy.stack.device_probes import serve_probes
from deploy.stack.device_workers import devices_of, run_until_stopped, workers_of
from shared.settings import Settings
settings = Settings()
workers = workers_of(settings, devices_of(settings), [sys.executable, "child.py"])
serve_probes(workers, settings.worker_metrics_port)
run_until_stopped(workers)
"""


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (None, ["gpu:3"]),
        ("gpu:0,gpu:2", ["gpu:0", "gpu:2"]),
        ("cpu, cpu", ["cpu", "cpu"]),
        ("xpu:1", ["xpu:1"]),
        ("all", ["gpu:0", "gpu:1", "gpu:2", "gpu:3"]),
    ],
)
def test_the_setting_names_the_devices(
    devices: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_workers, "count_gpus", lambda: 4)
    assert devices_of(Settings(device="gpu:3", devices=devices)) == expected


def test_all_gpus_of_a_machine_without_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_workers, "count_gpus", lambda: 0)
    with pytest.raises(SetupError, match="nvidia-smi"):
        devices_of(Settings(devices="all"))


def test_paddle_counts_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Path(__file__).parent / "paddle_stub"
    monkeypatch.setenv("PYTHONPATH", f"{stub}:{Path(__file__).parents[2]}")
    assert count_gpus() == 2
    monkeypatch.setenv("PADDLE_STUB", '{"without": ["cuda"]}')
    assert count_gpus() == 0
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineUnavailableError, match="can't count"):
        count_gpus()


@pytest.mark.parametrize("wrong", ["gpu", "gpu:0,", "every", "gpu:0;gpu:1", "all,gpu:0"])
def test_a_list_that_names_no_devices_is_refused(wrong: str) -> None:
    with pytest.raises(WrongSettingError):
        Settings(devices=wrong)


def test_workers_share_the_cores_unless_the_operator_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MATTING_CODEC_THREADS", "7")
    workers = workers_of(Settings(worker_metrics_port=9100), ["gpu:0", "gpu:1"], ["worker"])
    cores = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert [one.env["MATTING_CPU_THREADS"] for one in workers] == [cores, cores]
    assert [one.env["MATTING_CODEC_THREADS"] for one in workers] == ["7", "7"]
    assert [one.port for one in workers] == [9101, 9102]
    assert len({one.command[-1] for one in workers}) == 2, "each Celery worker has its name"


@pytest.mark.parametrize(
    ("workers", "given", "expected"), [(1, None, 4), (3, None, 1), (9, None, 1), (2, "7", 7)]
)
def test_workers_of_the_embedded_stack_share_them_too(
    workers: int, given: str | None, expected: int,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    for name in ("MATTING_CPU_THREADS", "MATTING_CODEC_THREADS"):
        monkeypatch.delenv(name, raising=False)
        if given is not None:
            monkeypatch.setenv(name, given)
    stack = Stack(tmp_path, workers=workers)
    env = stack._environment({"redis": 1, "s3": 2, "flower": 3, "api": 4}, "own", "secret")
    assert env["MATTING_CPU_THREADS"] == env["MATTING_CODEC_THREADS"] == str(expected)


def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the others would be left without their parent."""
    monkeypatch.setattr(device_workers, "MAX_RESTART_DELAY_S", 0.01)
    program = tmp_path / "worker"
    worker = DeviceWorker("gpu:0", 1, [str(program)], {}, delay_s=0.01)
    worker.restart_if_ended()
    assert [worker.child] == [None]
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o700)

    def started() -> bool:
        worker.restart_if_ended()
        return worker.child is not None

    eventually(started, "the worker")
    assert worker.child is not None
    worker.child.kill()
    worker.child.wait()


Parent = tuple["subprocess.Popen[bytes]", int, Path]


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    """`matting worker` with small programs in the place of workers. Returns its port and log."""
    (tmp_path / "child.py").write_text(CHILD)
    port, log = free_port(3), tmp_path / "log"  # its own and one for each worker
    own = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "MATTING_DEVICES": "gpu:0,gpu:1",
        "MATTING_WORKER_METRICS_PORT": str(port),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT],
            cwd=tmp_path,
            env={**os.environ, **own},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    yield process, port, log
    process.terminate()
    process.wait(180)


def _status(url: str) -> Callable[[], int]:
    def ask() -> int:
        try:
            return httpx.get(url).status_code
        except httpx.HTTPError:
            return 0

    return ask


def test_one_port_answers_for_all_and_one_that_ends_is_started_again(
    parent: Parent, tmp_path: Path
) -> None:
    process, port, log = parent
    at = f"http://127.0.0.1:{port}"
    ready = _status(f"{at}/readyz")
    eventually(lambda: ready() == 200, "both workers")
    metrics = httpx.get(f"{at}/metrics").text
    for device in ("gpu:0", "gpu:1"):
        assert f'matting_images_total{{status="done",worker="{device}@' in metrics
    assert metrics.count("# TYPE matting_images_total counter") == 1

    (tmp_path / "gpu-1").touch()
    assert ready() == 503, "one of them is not warm"
    states = httpx.get(f"{at}/readyz").json()["workers"]
    assert {name[:5]: state for name, state in states.items()} == {
        "gpu:0": "warm", "gpu:1": "warming",
    }  # fmt: skip
    assert _status(f"{at}/healthz")() == 200
    (tmp_path / "gpu-1").unlink()

    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port + 2}/die")
    eventually(lambda: log.read_text().count("started gpu:1") == 2, "the restart")
    eventually(lambda: ready() == 200, "both workers")
    assert log.read_text().count("started gpu:0") == 1, "the other one went on"

    process.send_signal(signal.SIGTERM)
    assert process.wait(180) == 0
    said = log.read_text()
    assert "finished its batch gpu:0" in said
    assert "finished its batch gpu:1" in said


def test_histograms_and_gauges_survive_the_merge() -> None:
    text = (
        '# TYPE h histogram\nh_bucket{le="1.0"} 1.0\nh_bucket{le="+Inf"} 2.0\n'
        "h_count 2.0\nh_sum 3.0\n# TYPE g gauge\ng 1.0\n"
    )
    said = merged([("a", text), ("b", text)]).decode()
    assert 'h_bucket{le="+Inf",worker="a"} 2.0' in said
    assert 'g{worker="b"} 1.0' in said
    assert said.count("# TYPE h histogram") == 1
