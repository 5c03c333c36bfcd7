"""Connections of clients that don't read their answer."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from api.http import connections
from shared.settings import Settings
from tests.waiting import eventually

CHUNK = bytes(256 * 1024)


class Endless:
    """An application whose answer ends only when the client disconnects."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not self.ended.is_set():
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            await asyncio.sleep(0)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, uvicorn.Server, Endless]]:
    monkeypatch.setattr(connections, "get_settings", lambda: Settings(body_timeout_s=0.5))
    app = Endless()
    config = uvicorn.Config(
        app, http=connections.HeaderTimeoutProtocol, port=0, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, "the server")
    yield server.servers[0].sockets[0].getsockname()[1], server, app
    app.ended.set()
    server.should_exit = True
    thread.join(180)


def test_a_client_that_reads_nothing_is_disconnected(
    served: tuple[int, uvicorn.Server, Endless],
) -> None:
    port, server, _ = served
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: server.server_state.connections, "the connection")
        eventually(lambda: not server.server_state.connections, "its end")


def test_a_client_that_keeps_reading_is_not_disconnected(
    served: tuple[int, uvicorn.Server, Endless],
) -> None:
    port, _, app = served
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = 0
        while received < 64 * 1024**2:
            chunk = connection.recv(1024**2)
            assert chunk, "it was cut off"
            received += len(chunk)
        app.ended.set()
