"""The clients with a service that fails now and then."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from api.client import ApiError, AsyncMattingClient, Job, Journal, MattingClient
from api.client.connection import PIECE_BYTES
from tests.http_servers import LocalHTTPServer
from tests.waiting import eventually


class Stumbling(LocalHTTPServer):
    """Answers the first `failures` PUTs of each path with `failure`, then accepts them."""

    def __init__(self, failures: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.failures = failures
        self.failure = 500
        self.retry_after_s: int | None = None
        self.put_at: list[float] = []
        self.puts: Counter[str] = Counter()
        self.stored: dict[str, bytes] = {}
        self.jobs: list[bytes] = []
        self.keys: list[str] = []
        self.slots = 0
        self.refuse_jobs = False
        self.may_go_on = threading.Event()
        """Results are sent to their middle before."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Stumbling

    def do_PUT(self) -> None:
        body = self._body()
        self.server.puts[self.path] += 1
        self.server.put_at.append(time.monotonic())
        if self.server.puts[self.path] <= self.server.failures:
            return self._answer(self.server.failure, {"error": "busy"})
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

    def do_GET(self) -> None:
        if self.path.startswith("/v1/jobs/"):
            return self._answer(200, {"items": [RESULT], "next_cursor": None})
        if self.path == RESULT["result"]:
            self.send_response(307)
            self.send_header("Location", f"{self.server.url}/file")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(200)
        self.send_header("Content-Length", str(2 * PIECE_BYTES))
        self.end_headers()
        self.wfile.write(b"a" * PIECE_BYTES)
        assert self.server.may_go_on.wait(180)
        self.wfile.write(b"b" * PIECE_BYTES)
        return None

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, body: object) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        if self.server.retry_after_s is not None:
            self.send_header("Retry-After", str(self.server.retry_after_s))
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


RESULT = {
    "id": "an-item",
    "name": "a.mp4",
    "status": "succeeded",
    "result": "/v1/items/an-item/result",
    "result_format": "webm",
    "output_bytes": 2 * PIECE_BYTES,
    "outputs": [],
    "finished_at": "2026-01-01T10:00:00+00:00",
}


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
    kind: str, stumbling: Stumbling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client.upload_stream.WHOLE_BYTES", 1024**2)
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


def _send_file(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, whole_bytes: int = 1
) -> None:
    monkeypatch.setattr("api.client.upload_stream.WHOLE_BYTES", whole_bytes)
    (folder / "a.zip").write_bytes(b"photos")
    with MattingClient(url, "key") as client:
        client.submit_attached("zip", folder / "a.zip")


def test_a_large_file_is_sent_again_as_often_as_a_small_one(
    broken: Stumbling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client.calls.RETRY.backoff_factor", 0.001)
    with pytest.raises(ApiError):
        _send_file(broken.url, tmp_path, monkeypatch)
    assert broken.puts == {"/store/0": 6}
    assert not broken.jobs


def test_a_large_file_is_sent_again_when_the_storage_asks_for_it(
    stumbling: Stumbling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stumbling.failure, stumbling.retry_after_s = 503, 1
    _send_file(stumbling.url, tmp_path, monkeypatch)
    first, second = stumbling.put_at
    assert second - first > 0.9
    assert stumbling.stored == {"/store/0": b"photos"}


@pytest.mark.parametrize("status", [307, 403])
@pytest.mark.parametrize("whole_bytes", [1, 100])
def test_an_upload_that_is_refused_or_sent_elsewhere_is_an_error_at_once(
    status: int,
    whole_bytes: int,
    broken: Stumbling,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken.failure = status
    with pytest.raises(ApiError) as caught:
        _send_file(broken.url, tmp_path, monkeypatch, whole_bytes=whole_bytes)
    assert (caught.value.code, caught.value.status) == ("upload-failed", status)
    assert broken.puts == {"/store/0": 1}
    assert not broken.jobs


@both
def test_clips_are_not_read_into_memory(
    kind: str, stumbling: Stumbling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight files are sent at a time, of up to 2 GiB each."""
    monkeypatch.setattr("api.client.upload_stream.WHOLE_BYTES", 1024**2, raising=False)
    photo, clip = tmp_path / "0.jpg", tmp_path / "1.mp4"
    photo.write_bytes(b"photo")
    clip.write_bytes(bytes(range(256)) * 12_000)
    read = Path.read_bytes

    def refuses(path: Path) -> bytes:
        assert path != clip, "it is read as a whole"
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuses)
    assert _submit(kind, stumbling.url, [photo, clip])["id"] == "a-job"
    assert stumbling.stored == {"/store/0": b"photo", "/store/1": bytes(range(256)) * 12_000}


def test_results_are_written_while_they_come(stumbling: Stumbling, tmp_path: Path) -> None:
    """That of a clip may be larger than the memory."""

    def is_half_written() -> bool:
        return any(one.stat().st_size for one in tmp_path.glob(".*.part"))

    with ThreadPoolExecutor() as thread, MattingClient(stumbling.url, "key") as client:
        downloading = thread.submit(client.download, "a-job", tmp_path)
        try:
            eventually(is_half_written, "the first half", 60)
        finally:
            stumbling.may_go_on.set()
        assert [path.name for _, path in downloading.result(180)] == ["a.webm"]
    assert (tmp_path / "a.webm").read_bytes() == b"a" * PIECE_BYTES + b"b" * PIECE_BYTES
    assert [one.name for one in tmp_path.iterdir()] == ["a.webm"]
