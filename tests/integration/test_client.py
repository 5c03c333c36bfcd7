"""The client against a service that stumbles."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api.client import ApiError, MattingClient


class Stumbling(ThreadingHTTPServer):
    """Answers `failures` PUTs of each path with a 500, then takes them."""

    def __init__(self, failures: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.failures = failures
        self.puts: Counter[str] = Counter()
        self.stored: dict[str, bytes] = {}
        self.jobs: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Stumbling

    def do_PUT(self) -> None:
        body = self._body()
        self.server.puts[self.path] += 1
        if self.server.puts[self.path] <= self.server.failures:
            return self._answer(500, {"error": "busy"})
        self.server.stored[self.path] = body
        return self._answer(200, {})

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/v1/uploads":
            count = json.loads(body)["count"]
            names = [f"/store/{number}" for number in range(count)]
            slots = [{"upload": name, "url": self.server.url + name} for name in names]
            return self._answer(201, {"uploads": slots})
        self.server.jobs.append(body)
        return self._answer(202, {"id": "a-job"})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, body: object) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


def _serve(failures: int) -> Iterator[Stumbling]:
    server = Stumbling(failures)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def stumbling() -> Iterator[Stumbling]:
    yield from _serve(failures=1)


@pytest.fixture
def broken() -> Iterator[Stumbling]:
    yield from _serve(failures=1_000)


def _photos(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.jpg" for number in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_a_store_that_stumbles_once_loses_no_upload(stumbling: Stumbling, tmp_path: Path) -> None:
    with MattingClient(stumbling.url, "key") as client:
        client.submit_files(_photos(tmp_path))
    assert stumbling.stored == {f"/store/{n}": f"{n}.jpg".encode() for n in range(3)}
    assert len(stumbling.jobs) == 1


def test_a_store_that_stays_broken_ends_in_an_error_and_no_job(
    broken: Stumbling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client.RETRY.backoff_factor", 0.001)
    with MattingClient(broken.url, "key") as client, pytest.raises(ApiError) as caught:
        client.submit_files(_photos(tmp_path))
    assert caught.value.code == "upload-failed"
    assert max(broken.puts.values()) == 6
    assert not broken.jobs
