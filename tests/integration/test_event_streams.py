"""The clients' streams of a job's events when the connection breaks."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from api.client import ApiError, AsyncMattingClient, Job, MattingClient
from tests.http_servers import LocalHTTPServer


class Breaking(LocalHTTPServer):
    """Sends one of `states` per connection, starting after the id that the client sends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states = ["accepted", "running", "finished"]
        self.asked: list[str | None] = []
        self.silent = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Breaking

    def do_GET(self) -> None:
        last = self.headers["Last-Event-ID"]
        self.server.asked.append(last)
        if "missing" in self.path:
            body = b'{"code": "job-not-found", "detail": "None.", "remedy": "Look."}'
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if self.server.silent:
            return
        states = self.server.states
        at = 0 if last is None else states.index(last) + 1
        kind = "end" if at == len(states) - 1 else "progress"
        data = json.dumps({"id": "a-job", "status": states[at]})
        self.wfile.write(b"retry: 10\n\n: still here\n\n")
        self.wfile.write(f"event: {kind}\nid: {states[at]}\ndata: {data}\n\n".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def breaking() -> Iterator[Breaking]:
    server = Breaking()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def heard(kind: str, url: str, job_id: str) -> list[Job]:
    if kind == "sync":
        with MattingClient(url, "key") as client:
            return list(client.events(job_id))

    async def listen() -> list[Job]:
        async with AsyncMattingClient(url, "key") as client:
            return [job async for job in client.events(job_id)]

    return asyncio.run(listen())


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
def test_a_broken_stream_continues_after_the_last_event(kind: str, breaking: Breaking) -> None:
    jobs = heard(kind, breaking.url, "a-job")
    assert [job["status"] for job in jobs] == breaking.states
    assert breaking.asked == [None, "accepted", "running"]


@both
def test_a_refused_stream_is_an_error(kind: str, breaking: Breaking) -> None:
    with pytest.raises(ApiError) as caught:
        heard(kind, breaking.url, "missing")
    assert caught.value.code == "job-not-found"
    assert len(breaking.asked) == 1


@both
def test_a_silent_stream_times_out(
    kind: str, breaking: Breaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client.event_stream.RECONNECT_DELAY_S", 0.01)
    breaking.silent = True
    with pytest.raises(httpx.TransportError):
        heard(kind, breaking.url, "a-job")
    assert len(breaking.asked) == 6
