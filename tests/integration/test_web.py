"""Fetching photos from the web: limits, redirects, and no access to the internal network."""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    ClipTooLargeError,
    FileTooLargeError,
    ForbiddenUrlError,
    SourceDeniedError,
    SourceNotFoundError,
    UrlNotFetchedError,
)
from shared.web import Web, WebLimits, is_public
from tests.http_servers import LocalHTTPServer

OPEN = WebLimits(timeout_s=2, max_redirects=3, allow_private=True, min_clip_bytes_per_s=10**6)
CLOSED = WebLimits(timeout_s=2, max_redirects=3, allow_private=False, min_clip_bytes_per_s=10**6)


class _Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        kind, _, rest = self.path.strip("/").partition("/")
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", rest if ":" in rest else "/" + rest)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "status":
            self.send_response(int(rest))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            for _ in range(1_000):
                self.wfile.write(b"x" * 1_000)
        elif kind == "paced":  # ten pieces, the last one after the time of a photo
            pieces, pause_s = 10, float(rest)
            self.send_response(200)
            self.send_header("Content-Length", str(1_000 * pieces))
            self.end_headers()
            for _ in range(pieces):
                with suppress(OSError):
                    self.wfile.write(b"x" * 1_000)
                    self.wfile.flush()
                time.sleep(pause_s)
        elif kind == "slow":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while True:  # until the client closes the connection
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        else:
            body = f"{self.headers['Host']} {self.path}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[LocalHTTPServer]:
    server = LocalHTTPServer(("127.0.0.1", 0), _Site)
    server.daemon_threads = True
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(site: LocalHTTPServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{site.server_port}/{path}"


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web(OPEN)
    yield web
    web.close()


@pytest.fixture
def guarded() -> Iterator[Web]:
    web = Web(CLOSED)
    yield web
    web.close()


def test_a_file_is_fetched_with_the_host_s_name(web: Web, site: LocalHTTPServer) -> None:
    expected = f"localhost:{site.server_port} /a.jpg?x=1".encode()
    assert web.get(url(site, "a.jpg?x=1", "localhost"), 1_000) == expected
    assert web.get(url(site, "to/to/a.jpg"), 1_000).endswith(b"/a.jpg")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("status/404", SourceNotFoundError),
        ("status/403", SourceDeniedError),
        ("status/503", UrlNotFetchedError),
        ("status/429", UrlNotFetchedError),
        ("endless", FileTooLargeError),
        ("slow", UrlNotFetchedError),
        ("to/to/to/to/to/a.jpg", ForbiddenUrlError),
        ("to/file:///etc/passwd", ForbiddenUrlError),
    ],
)
def test_a_failed_fetch_gives_a_reason(
    web: Web, site: LocalHTTPServer, path: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        web.get(url(site, path), 100_000)


def test_a_clip_may_take_longer_than_a_photo_at_a_least_rate(site: LocalHTTPServer) -> None:
    place = f"http://127.0.0.1:{site.server_port}"
    limits = replace(OPEN, timeout_s=0.5, min_clip_bytes_per_s=10)
    for fetch, fails in (("fetch", True), ("fetch_clip", False)):
        web, file = Web(limits), io.BytesIO()
        with pytest.raises(UrlNotFetchedError) if fails else nullcontext():
            getattr(web, fetch)(f"{place}/paced/0.06", 10**6, file)
        web.close()
        assert (file.tell() < 10_000) == fails
    web = Web(replace(limits, min_clip_bytes_per_s=10**6))
    with pytest.raises(UrlNotFetchedError):
        web.fetch_clip(f"{place}/paced/0.06", 10**6, io.BytesIO())
    for kind in ("paced/0", "endless"):  # with and without its length
        with pytest.raises(ClipTooLargeError):
            web.fetch_clip(f"{place}/{kind}", 9_000, io.BytesIO())
    web.close()


@pytest.mark.parametrize(
    ("scheme", "asked"), [("http", "post"), ("https", "post"), ("http", "clip")]
)
def test_a_server_that_sends_single_bytes_times_out(scheme: str, asked: str) -> None:
    """Before the first line of the answer, and during the TLS handshake. A clip has no more time
    for it than a photo.
    """
    dripping = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        peer, _ = dripping.accept()
        with peer, suppress(OSError):
            # For TLS, the header of an endless record. For plain HTTP, an endless first line.
            peer.sendall(b"\x16\x03\x03\x40\x00" if scheme == "https" else b"HTTP/1.1 200 ")
            while not over.wait(0.1):
                peer.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    web = Web(replace(OPEN, timeout_s=1))
    address = f"{scheme}://127.0.0.1:{dripping.getsockname()[1]}/"
    ask: dict[str, Callable[[], object]] = {
        "post": lambda: web.post(address, b"{}", {}),
        "clip": lambda: web.fetch_clip(address, 10**9, io.BytesIO()),
    }
    with pytest.raises(UrlNotFetchedError):  # the server never ends by itself
        ask[asked]()
    over.set()
    thread.join()
    dripping.close()
    web.close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ],
)
def test_no_notation_of_loopback_is_fetched(guarded: Web, site: LocalHTTPServer, host: str) -> None:
    with pytest.raises((ForbiddenUrlError, UrlNotFetchedError)):
        guarded.get(url(site, "a.jpg", host), 1_000)
    assert site.asked == []  # type: ignore[attr-defined]


def test_a_name_is_resolved_once_and_that_address_is_used(
    web: Web, site: LocalHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, []

    def rebinding(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host != "rebind.example":
            return real(host, port, *rest, **more)
        asked.append(host)
        # A second lookup would return another address.
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert b"rebind.example" in web.get(url(site, "a.jpg", "rebind.example"), 1_000)
    assert asked == ["rebind.example"]


def test_a_name_with_any_private_address_is_refused(
    guarded: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def mixed(_host: str, port: int, **more: Any) -> Any:
        return [entry for ip in ("8.8.8.8", "10.0.0.1") for entry in real(ip, port, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", mixed)
    with pytest.raises(ForbiddenUrlError):
        guarded.get("http://mixed.example/a.jpg", 1_000)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "3fff::1",
        "192.88.99.1",
        "::127.0.0.1",
        "64:ff9b:1::7f00:1",
        "::",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "192.0.0.192",
        "198.18.0.1",
        "168.63.129.16",
        "2001:20::1",
        "100::1",
        "2001:db8::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fc00::/7"))
def test_no_private_address_is_public(address: object) -> None:
    assert not is_public(str(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)
