"""Connections that cheat, stop or never end; one row an attack."""

import http.client
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.acceptance.hostile.api import HEADERS_S, Api

pytestmark = pytest.mark.timeout(60)


def raw(api: Api, request: bytes, *, wait_s: float = 10) -> bytes:
    """What comes back on one connection for these very bytes, until it is closed."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=wait_s) as connection:
        connection.sendall(request)
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except (ConnectionResetError, TimeoutError):
            pass
    return received


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e3\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"X: " + b"x" * 200_000 + b"\r\n",
        b"".join(b"X-%d: x\r\n" % number for number in range(20_000)),
        b"X\0Y: z\r\n",
        b" folded: x\r\n",
    ],
)
def test_headers_that_cheat_are_refused(api: Api, headers: bytes) -> None:
    start_line = b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    answer = raw(api, start_line + headers + b"Connection: close\r\n\r\n{}", wait_s=5)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1, "one request, one answer"


def test_a_body_with_no_length_is_counted_as_it_comes(api: Api) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    headers = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"}
    chunks = (b" " * 65_536 for _ in range(200))
    try:
        connection.request("POST", "/v1/jobs", body=chunks, headers=headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was cut off while sending
    finally:
        connection.close()


def test_a_body_that_stops_coming_ends(api: Api) -> None:
    request = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n"
    request += "Content-Type: application/json\r\nConnection: close\r\n"
    request += "Content-Length: 1000\r\n\r\n{"
    answer = raw(api, request.encode())
    assert b" 408 " in answer.splitlines()[0]
    assert b"request-timeout" in answer


def test_headers_that_never_end_hold_no_connection_for_ever(api: Api) -> None:
    unfinished = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    attacks = ((b"", 0), (unfinished, 0), (unfinished + b"\r\n" + unfinished, 1))
    with ThreadPoolExecutor(len(attacks)) as pool:
        received = list(pool.map(lambda attack: until_closed(api, attack[0]), attacks))
    assert [one.count(b"HTTP/1.1 200") for one in received] == [count for _, count in attacks]


def until_closed(api: Api, sent: bytes) -> bytes:
    """What the server answers before it closes the connection; it must."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=HEADERS_S + 15) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(1_000), b""))


def test_callers_that_send_nothing_keep_nobody_out(api: Api, owner: httpx.Client) -> None:
    idle = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(300)]
    try:
        for connection in idle[::2]:
            connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert owner.get("/v1/jobs").status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_every_answer_carries_the_headers_that_bind_browsers(
    anyone: httpx.Client, owner: httpx.Client
) -> None:
    found = [anyone.get(path) for path in ("/healthz", "/docs", "/v1/jobs", "/nothing", "/metrics")]
    found += [owner.get("/v1/jobs"), owner.post("/v1/jobs", content=b"{"), owner.put("/v1/jobs")]
    found.append(owner.post("/v1/jobs", content=bytes(3 * 1024**2)))
    for answer in found:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff", answer.url
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["strict-transport-security"]
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers or "/" not in headers["server"], "no version is told"
