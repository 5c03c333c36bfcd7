"""Whoever waits for a job goes on when the service is away for a while."""

import asyncio
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from httpx_retries import Retry

from api.client import ApiError, AsyncMattingClient, Job, MattingClient, calls, connection
from deploy.cli import app
from deploy.commands.watch_folder import RECORD, FolderWatch, watch_until_stopped
from deploy.local_photos import SAMPLES
from deploy.stack.processes import free_port
from tests.acceptance.command import running
from tests.http_servers import LocalHTTPServer
from tests.waiting import eventually

JOB: dict[str, object] = {
    "id": "01a1fb77-d843-73ec-984f-708320b6b1cb",
    "error": None,
    "counts": dict.fromkeys(("total", "running", "succeeded", "failed", "cancelled"), 0),
    "images_per_s": None,
    "estimated_s_left": None,
}


class Service(LocalHTTPServer):
    """Answers each request with the next of `answers`: a status, and the status of the job."""

    def __init__(self, port: int, answers: list[tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answers = answers


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def _answer(self) -> None:
        status, said = self.server.answers.pop(0)
        body: dict[str, object] = {"code": said, "detail": "So it is", "remedy": "Wait."}
        if status == 200:
            body = JOB | {"status": said}
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outage is longer than the repeated requests last."""
    monkeypatch.setattr(calls, "RETRY_API", Retry(total=0))
    monkeypatch.setattr(connection, "CONNECT_RETRIES", 0)


@contextmanager
def _serve(port: int, answers: list[tuple[int, str]]) -> Iterator[str]:
    with _serving(Service(port, answers)) as url:
        yield url


@contextmanager
def _serving(server: Service) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _wait(kind: str, url: str) -> Job:
    if kind == "sync":
        with MattingClient(url, "key") as client:
            return client.wait("a-job", every_s=0.01)

    async def wait() -> Job:
        async with AsyncMattingClient(url, "key") as client:
            return await client.wait("a-job", every_s=0.01)

    return asyncio.run(wait())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_waiting_outlives_a_restart_of_the_service(kind: str) -> None:
    away = [(503, "database-unavailable")] * 3
    with _serve(0, [(200, "running"), *away, (200, "finished")]) as url:
        assert _wait(kind, url)["status"] == "finished"


@pytest.mark.parametrize(
    "answers",
    [[(503, "database-unavailable")], [(200, "running"), (404, "job-not-found")]],
    ids=["never answered", "no such job"],
)
def test_other_errors_end_the_waiting_at_once(answers: list[tuple[int, str]]) -> None:
    with _serve(0, answers) as url, pytest.raises(ApiError, match="So it is"):
        _wait("sync", url)


def test_who_loses_the_service_is_told_that_the_job_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calls, "OUTAGE_S", 0.0)
    with _serve(0, [(200, "running"), (503, "database-unavailable")]) as url:
        monkeypatch.setenv("MATTING_API_URL", url)
        monkeypatch.setenv("MATTING_API_KEY", "key")
        with pytest.raises(ApiError):
            app(["watch", str(JOB["id"])], standalone_mode=False)
    assert f"matting watch {JOB['id']}" in capsys.readouterr().err


class _Storage(BaseHTTPRequestHandler):
    """Takes photos and never answers."""

    server: Service

    def do_POST(self) -> None:
        count = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["count"]
        slots = [
            {"upload": f"{n}", "url": f"http://{self.headers['Host']}/{n}"} for n in range(count)
        ]
        payload = json.dumps({"uploads": slots}).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_PUT(self) -> None:
        self.server.answers.append((0, "a photo came"))
        self.rfile.read()  # until the client goes

    def log_message(self, *_: object) -> None:
        pass


def test_ctrl_c_while_photos_are_sent_says_that_nothing_is_lost(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    server = Service(0, [])
    server.RequestHandlerClass = _Storage
    with _serving(server) as url:
        env = {"MATTING_API_URL": url, "MATTING_API_KEY": "key", "XDG_STATE_HOME": str(tmp_path)}
        with running("submit", str(tmp_path), cwd=tmp_path, **env) as command:
            eventually(lambda: server.answers, "a photo to be sent")
            command.send_signal(signal.SIGINT)
            _, said = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "the same command goes on" in said
    assert said.endswith("stopped\n")
    assert "Warning" not in said


def test_a_watched_folder_waits_for_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched, port, said = tmp_path / "photos", free_port(), ""
    watched.mkdir()
    shutil.copy(SAMPLES / "mug.jpg", watched)
    os.utime(watched / "mug.jpg", (0, 0))

    def watch() -> None:
        with MattingClient(f"http://127.0.0.1:{port}", "key") as client:
            folder = FolderWatch(watched, tmp_path / "out")
            watch_until_stopped(folder, client, {}, every_s=0.01)

    def waits() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "waiting:" in said

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            eventually(waits, "the command to say that it waits")
        finally:
            revoked = _serve(port, [(401, "invalid-key")] * 9)
            with revoked, pytest.raises(ApiError, match="invalid-key"):  # which ends it
                watching.result(timeout=60)
    assert (said + capsys.readouterr().err).count("waiting:") == 1


def test_a_photo_that_was_away_when_its_batch_was_sent_is_new_when_it_comes_back(
    tmp_path: Path,
) -> None:
    watched, out = tmp_path / "photos", tmp_path / "out"
    watched.mkdir()
    out.mkdir()
    batch = {"photos": {"a.jpg": [1, 2]}, "job": None}
    (out / RECORD).write_text(json.dumps({"batch": batch}))
    with MattingClient("http://127.0.0.1:1", "key") as client:
        FolderWatch(watched, out).look(client, {})
    record = json.loads((out / RECORD).read_text())
    assert (record["batch"], record["sent"]) == (None, {})


def test_photos_of_a_job_that_was_deleted_are_new(tmp_path: Path) -> None:
    """Otherwise every further run would end with the same error."""
    watched, out = tmp_path / "photos", tmp_path / "out"
    watched.mkdir()
    out.mkdir()
    batch = {"photos": {"a.jpg": [1, 2]}, "job": JOB["id"]}
    (out / RECORD).write_text(json.dumps({"batch": batch}))
    with _serve(0, [(404, "job-not-found")]) as url, MattingClient(url, "key") as client:
        FolderWatch(watched, out).look(client, {})
    record = json.loads((out / RECORD).read_text())
    assert (record["batch"], record["sent"]) == (None, {})


class _Report(BaseHTTPRequestHandler):
    """Sends a report to its middle, then closes the connection; the second one completely."""

    server: Service

    def do_GET(self) -> None:
        status, text = self.server.answers.pop(0)
        self.send_response(200)
        self.send_header("Content-Length", str(status))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_report_that_is_cut_off_leaves_the_earlier_one(tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    report.write_text("of yesterday")
    server = Service(0, [(20, "name,sta"), (8, "complete"), (8, "complete")])
    server.RequestHandlerClass = _Report
    with _serving(server) as url, MattingClient(url, "key") as client:
        with pytest.raises(httpx.TransportError):
            client.report("a-job", report)
        assert (report.read_text(), list(tmp_path.iterdir())) == ("of yesterday", [report])
        client.report("a-job", report)
        assert (report.read_text(), list(tmp_path.iterdir())) == ("complete", [report])
        read, write = os.pipe()
        client.report("a-job", f"/proc/self/fd/{write}")  # as /dev/stdout before a pipe
        assert os.read(read, 100) == b"complete"
        os.close(read)
        os.close(write)
