"""Hostile addresses and servers, one row per attack. A canary on the internal network notices any
request that gets through.
"""

import gzip
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import h11
import httpx
import pytest

from shared import web as web_module
from shared.errors import (
    EncodedSourceError,
    FileTooLargeError,
    ForbiddenUrlError,
    MattingError,
    UrlNotFetchedError,
)
from shared.web import CHECKS_AT_ONCE, Web, WebLimits, refuse_private
from tests.http_servers import CheckedErrors
from tests.process_memory import MIB, growth_of

pytestmark = pytest.mark.timeout(180)

PUBLIC = "127.0.0.2"
"""These tests treat this address as public. All others keep their meaning."""

TIMEOUT_S = 1.0


class Server(CheckedErrors, socketserver.ThreadingTCPServer):
    """Answers every connection with the same bytes; some servers send them slowly."""

    allow_reuse_address = daemon_threads = True
    heard: list[bytes]
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    drip_s: float = 0.0
    dripped_to_the_end = False


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.heard.append(self.request.recv(65_536))
        if not server.drip_s:
            self.request.sendall(server.answer)
            return
        for byte in server.answer:
            self.request.sendall(bytes([byte]))
            time.sleep(server.drip_s)
        server.dripped_to_the_end = True


@contextmanager
def serving(address: str) -> Iterator[Server]:
    with Server((address, 0), Handler) as server:
        server.heard = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def canary() -> Iterator[Server]:
    """A server on the internal network. No request may reach it."""
    with serving("127.0.0.1") as server:
        yield server


@pytest.fixture
def evil() -> Iterator[Server]:
    """A hostile server on the web."""
    with serving(PUBLIC) as server:
        yield server


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    real = web_module.is_public
    monkeypatch.setattr(web_module, "is_public", lambda ip: ip == PUBLIC or real(ip))
    limits = WebLimits(
        timeout_s=TIMEOUT_S, max_redirects=3, allow_private=False, min_clip_bytes_per_s=10**6
    )
    web = Web(limits)
    yield web
    web.close()


def port_of(server: Server) -> int:
    return int(server.server_address[1])


def url_of(server: Server, path: str = "x.jpg") -> str:
    return f"http://{server.server_address[0]!s}:{port_of(server)}/{path}"


NOTATIONS = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.01:{port}/",
    "http://0x7f.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/",
    "http://photos.example@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@photos.example/",
    "http://127.0.0.1:{port}\\@photos.example/",
    "http://127.0.0.1%00.photos.example:{port}/",
    "http://127.0.0.1%2f@photos.example:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/\r\nX: y",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_x",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "data:image/png;base64,AAAA",
    "dict://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/",
    "http://2852039166/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://255.255.255.255/",
    "http://224.0.0.1/",
    "",
    "http://",
    "http://:80/",
    "http://[/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/",
]


@pytest.mark.parametrize("address", NOTATIONS)
def test_no_notation_reaches_the_internal_network(web: Web, canary: Server, address: str) -> None:
    url = address.replace("{port}", str(port_of(canary)))
    with pytest.raises((ForbiddenUrlError, UrlNotFetchedError)):
        web.get(url, 1_000)
    with pytest.raises((ForbiddenUrlError, UrlNotFetchedError)):
        web.post(url, b"{}", {})
    assert canary.heard == []


@pytest.mark.parametrize("status", [302, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "http://2130706433:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://127.0.0.2@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "\thttp://127.0.0.1:{port}/",
        "http:\\\\127.0.0.1:{port}/",
        "http://[x",
        "http://a]b/",
        "http://a\u2100b/",
        "http://xn--/",
        "http://192.0.2.1:99999/",
    ],
)
def test_no_redirect_reaches_the_internal_network(
    web: Web, canary: Server, evil: Server, status: int, location: str
) -> None:
    target = location.replace("{port}", str(port_of(canary)))
    head = f"HTTP/1.1 {status} There\r\nLocation: {target}\r\nContent-Length: 0\r\n"
    evil.answer = f"{head}Connection: close\r\n\r\n".encode()
    with pytest.raises(MattingError):
        web.get(url_of(evil), 1_000)
    assert evil.heard, "it was the redirect that was refused"
    assert canary.heard == []
    with suppress(UrlNotFetchedError):  # invalid answer
        assert web.post(url_of(evil), b"{}", {}).status == status, "an answer, not followed"
    assert canary.heard == []


@pytest.mark.parametrize("url", ["http://xn--/", "http://192.0.2.1:99999/", "//"])
def test_an_invalid_url_is_refused_as_the_caller_s_mistake(url: str) -> None:
    with pytest.raises(ForbiddenUrlError):
        refuse_private(url, allow_private=True)


def test_name_servers_that_hang_hold_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else webhooks whose names a caller's own server never answers would hold all requests."""
    answered, asked = threading.Event(), threading.Semaphore(0)
    real = socket.getaddrinfo

    def hangs(host: str, *given: Any, **named: Any) -> object:
        if not host.endswith(".example") or named.get("flags") == socket.AI_NUMERICHOST:
            return real(host, *given, **named)
        asked.release()
        assert answered.wait(180)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    with ThreadPoolExecutor(2 * CHECKS_AT_ONCE) as threads:
        checks = [
            threads.submit(refuse_private, f"http://{n}.example/", allow_private=False)
            for n in range(CHECKS_AT_ONCE)
        ]
        for _ in checks:
            assert asked.acquire(timeout=180)
        try:
            more = threads.submit(refuse_private, "http://more.example/", allow_private=False)
            more.result(180)
            for url in (
                "http://192.0.2.1:99999/",
                "http://10.0.0.1/",
                "http://[::1]/",
                "http://127.1/",
            ):
                with pytest.raises(ForbiddenUrlError):  # what needs no look-up is checked
                    refuse_private(url, allow_private=False)
        finally:
            answered.set()
        for check in checks:
            check.result(180)


def test_a_name_is_checked_again_after_each_redirect(
    web: Web, canary: Server, evil: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, list[str]()

    def rebinding(host: str, port: int, *rest: int, **more: int) -> object:
        if host != "rebind.example":
            return real(host, port, *rest, **more)
        asked.append(host)
        return real(PUBLIC if len(asked) == 1 else "127.0.0.1", port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    again = f"http://rebind.example:{port_of(canary)}/"
    head = f"HTTP/1.1 302 Found\r\nLocation: {again}\r\nContent-Length: 0\r\n"
    evil.answer = f"{head}Connection: close\r\n\r\n".encode()
    with pytest.raises(ForbiddenUrlError):
        web.get(f"http://rebind.example:{port_of(evil)}/", 1_000)
    assert len(asked) == 2
    assert canary.heard == []


def test_nothing_of_the_environment_is_sent(
    web: Web, evil: Server, canary: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url_of(canary))
    monkeypatch.setenv("ALL_PROXY", url_of(canary))
    assert web.get(url_of(evil), 1_000) == b"hi"
    assert canary.heard == []
    [request] = evil.heard
    names = {line.split(b":")[0].lower() for line in request.split(b"\r\n")[1:] if line}
    assert names <= {b"host", b"accept", b"accept-encoding", b"connection", b"user-agent"}


OK = b"HTTP/1.1 200 OK\r\n"
CLOSE = b"Connection: close\r\n"
BOMB = gzip.compress(gzip.compress(bytes(200 * 1024**2)))


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "identity, gzip", "GZIP", "br", "x"])
def test_a_compressed_transfer_is_not_unpacked(web: Web, evil: Server, encoding: str) -> None:
    evil.answer = OK + CLOSE + f"Content-Encoding: {encoding}\r\n\r\n".encode() + BOMB
    with growth_of(os.getpid()) as growth, pytest.raises(EncodedSourceError):
        web.get(url_of(evil, "x.jpg?token=secret"), 50 * 1024**2)
    assert growth.peak_bytes < 16 * MIB
    [request] = evil.heard
    assert b"accept-encoding: identity\r\n" in request.lower()


def test_an_identity_encoding_is_accepted(web: Web, evil: Server) -> None:
    evil.answer = OK + CLOSE + b"Content-Encoding: identity\r\n\r\nphoto"
    assert web.get(url_of(evil), 1_000) == b"photo"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n",
    ],
)
def test_a_server_cannot_keep_a_core_busy_with_tiny_pieces(
    web: Web, evil: Server, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []
    next_event = h11.Connection.next_event

    def counted(connection: h11.Connection) -> object:
        events.append(event := next_event(connection))
        return event

    monkeypatch.setattr(h11.Connection, "next_event", counted)
    evil.answer = answer
    with pytest.raises(UrlNotFetchedError):
        web.get(url_of(evil), 50 * 1024**2)
    assert len(events) < 5_000


@pytest.mark.parametrize(
    ("answer", "drip_s"),
    [
        (OK + CLOSE + b"Content-Length: 99999999999\r\n\r\nx", 0),
        (OK + CLOSE + b"\r\n" + bytes(100_000), 0),
        (OK + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + bytes(2_000), 0),
        (OK + CLOSE + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", 0),
        (OK + b"X: " + b"x" * 10_000_000 + b"\r\n\r\n", 0),
        (OK + b"X: y\r\n" * 200_000 + b"\r\n", 0),
        (b"\0" * 100_000, 0),
        (b"", 0),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, 0),
        (OK + b"X: " + b"x" * 1_000 + b"\r\n\r\n", 0.05),
        (OK + CLOSE + b"Content-Length: 900\r\n\r\n" + b"x" * 900, 0.05),
        (b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n" + CLOSE + b"\r\n", 0),
    ],
)
def test_a_hostile_server_costs_little(
    web: Web, evil: Server, answer: bytes, drip_s: float
) -> None:
    evil.answer, evil.drip_s = answer, drip_s
    with pytest.raises((FileTooLargeError, UrlNotFetchedError, ForbiddenUrlError)) as caught:
        web.get(url_of(evil, "x.jpg?token=secret"), 1_000)
    assert not evil.dripped_to_the_end
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value, httpx.HTTPError)
