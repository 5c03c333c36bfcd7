"""The clients with a service that fails now and then."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from api.client import ApiError, AsyncMattingClient, Job, Journal, MattingClient
from tests.http_servers import LocalHTTPServer


class Stumbling(LocalHTTPServer):
    """Answers the first `failures` PUTs of each path with 500, then accepts them."""

    def __init__(self, failures: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.failures = failures
        self.puts: Counter[str] = Counter()
        self.stored: dict[str, bytes] = {}
        self.jobs: list[bytes] = []
        self.keys: list[str] = []
        self.slots = 0
        self.refuse_jobs = False

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
            names = [f"/store/{self.server.slots + number}" for number in range(count)]
            self.server.slots += count
            slots = [{"upload": name, "url": self.server.url + name} for name in names]
            return self._answer(201, {"uploads": slots})
        self.server.keys.append(self.headers["Idempotency-Key"])
        if self.server.refuse_jobs:
            return self._answer(422, {"error": "not now"})
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


def _submit(kind: str, url: str, files: list[Path], journal: Path | None = None) -> Job:
    """Submit files with one of the two clients."""
    if kind == "sync":
        with MattingClient(url, "key") as client:
            return client.submit_files(files, journal=Journal(journal))

    async def submit() -> Job:
        async with AsyncMattingClient(url, "key") as client:
            return await client.submit_files(files, journal=Journal(journal))

    return asyncio.run(submit())


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
def test_a_storage_that_fails_once_loses_no_upload(
    kind: str, stumbling: Stumbling, tmp_path: Path
) -> None:
    assert _submit(kind, stumbling.url, _photos(tmp_path))["id"] == "a-job"
    assert stumbling.stored == {f"/store/{n}": f"{n}.jpg".encode() for n in range(3)}
    assert len(stumbling.jobs) == 1


@both
def test_a_broken_storage_is_an_error_and_makes_no_job(
    kind: str, broken: Stumbling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client.calls.RETRY.backoff_factor", 0.001)
    with pytest.raises(ApiError) as caught:
        _submit(kind, broken.url, _photos(tmp_path))
    assert caught.value.code == "upload-failed"
    assert max(broken.puts.values()) == 6
    assert not broken.jobs


@both
def test_an_interrupted_submission_continues_and_makes_one_job(
    kind: str, stumbling: Stumbling, tmp_path: Path
) -> None:
    photos, journal = _photos(tmp_path), tmp_path / "journal"
    stumbling.refuse_jobs = True
    with pytest.raises(ApiError):
        _submit(kind, stumbling.url, photos, journal)
    sent = dict(stumbling.puts)
    (tmp_path / "late.jpg").write_bytes(b"late")
    stumbling.refuse_jobs = False
    _submit(kind, stumbling.url, [*photos, tmp_path / "late.jpg"], journal)
    again = stumbling.puts - Counter(sent)
    assert set(again) == {"/store/3"}
    assert len(json.loads(stumbling.jobs[-1])["source"]["uploads"]) == 4
    assert not journal.exists()


@both
def test_a_repeated_submission_has_the_same_idempotency_key_and_a_changed_one_has_not(
    kind: str, stumbling: Stumbling, tmp_path: Path
) -> None:
    photos, journal = _photos(tmp_path), tmp_path / "journal"
    stumbling.refuse_jobs = True
    for _ in range(2):
        with pytest.raises(ApiError):
            _submit(kind, stumbling.url, photos, journal)
    photos[0].write_bytes(b"another picture")
    with pytest.raises(ApiError):
        _submit(kind, stumbling.url, photos, journal)
    first, second, third = stumbling.keys
    assert first == second != third


@both
def test_a_large_file_is_uploaded_directly_and_again_after_a_failure(
    kind: str, stumbling: Stumbling, tmp_path: Path
) -> None:
    archive = tmp_path / "photos.zip"
    archive.write_bytes(bytes(range(256)) * 12_000)  # three chunks
    sent: list[int] = []
    if kind == "sync":
        with MattingClient(stumbling.url, "key") as client:
            client.submit_attached("zip", archive, priority=7, on_sent=sent.append)
    else:

        async def submit() -> None:
            async with AsyncMattingClient(stumbling.url, "key") as client:
                await client.submit_attached("zip", archive, priority=7, on_sent=sent.append)

        asyncio.run(submit())
    assert stumbling.puts == {"/store/0": 2}
    assert stumbling.stored["/store/0"] == archive.read_bytes()
    assert json.loads(stumbling.jobs[0]) == {"source": {"zip": "/store/0"}, "priority": 7}
    assert sum(sent) == archive.stat().st_size
