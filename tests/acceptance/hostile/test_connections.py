"""Connections that cheat, stop or never end, one row per attack."""

import http.client
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.acceptance.hostile.api import HEADERS_S, Api, assert_refused

pytestmark = pytest.mark.timeout(180)


def raw(api: Api, request: bytes, *, wait_s: float = 60) -> bytes:
    """Send these bytes on one connection. Returns everything that comes back until it is closed."""
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
        b"".join(b"X-%d:\r\n" % number for number in range(101)),
        b"X\0Y: z\r\n",
        b"Host: y\r\n",
        b" folded: x\r\n",
    ],
)
def test_headers_that_cheat_are_refused(api: Api, headers: bytes) -> None:
    start_line = b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    answer = raw(api, start_line + headers + b"Connection: close\r\n\r\n{}")
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1, "one request, one answer"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Type: multipart/form-data; boundary=x\r\n",
        b"content-type: application/json\r\n",
        b"Authorization: Bearer x\r\nAuthorization: Bearer y\r\n",
        b"X-Api-Key: x\r\nX-Api-Key: y\r\n",
        b"Idempotency-Key: x\r\nIdempotency-Key: y\r\n",
    ],
)
def test_repeated_headers_are_refused(api: Api, headers: bytes) -> None:
    start_line = b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    answer = raw(api, start_line + headers + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400"), answer[:200]
    assert b"ambiguous-request" in answer
    assert b"x-content-type-options" in answer.lower()


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_a_request_has_at_most_a_hundred_headers(api: Api, piece: int) -> None:
    for count, answer in ((100, b"HTTP/1.1 401"), (101, b"HTTP/1.1 400")):
        own = b"".join(b"X-%d: x\r\n" % number for number in range(count - 3))
        request = b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n" + own
        request += b"Connection: close\r\n\r\n" + b"\n" * 300
        with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(request), piece):
                try:
                    connection.sendall(request[start : start + piece])
                except (BrokenPipeError, ConnectionResetError):
                    break  # it was refused in the middle
            try:
                assert connection.recv(12) == answer
            except ConnectionResetError:
                assert count > 100


def test_a_compressed_body_is_refused_and_not_unpacked(owner: httpx.Client) -> None:
    for encoding in ("gzip", "gzip, gzip", "br", "deflate"):
        answer = owner.post("/v1/uploads", content=b"{}", headers={"Content-Encoding": encoding})
        assert_refused(answer, 415)


def test_no_body_is_read_without_a_key(api: Api) -> None:
    request = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request += b"Content-Length: 20000000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    answer = raw(api, request)
    assert answer.startswith(b"HTTP/1.1 401"), answer[:200]


def test_a_connection_with_an_unread_body_is_closed(api: Api) -> None:
    request = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
        connection.sendall(request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip(connection, HEADERS_S + 20)


def drip(connection: socket.socket, for_s: float) -> None:
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        connection.sendall(b"x")
        time.sleep(0.05)


def test_upgrade_requests_are_ignored(api: Api) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n"
    request += b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    answer = raw(api, request + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer[:200]


def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    key = f"Authorization: Bearer {api.key}\r\n".encode()
    body = b'{"count": 1}'
    post = b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + key
    post += b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    anonymous = b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(api, post + anonymous + bytes(100_000) + post + last)
    found = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert found == [b"200", b"401", b"200", b"200"]


def test_a_client_that_disconnects_leaves_nothing_behind(api: Api) -> None:
    for kind in (b"application/json", b"multipart/form-data; boundary=x"):
        for path in (b"/v1/jobs", b"/v1.0/removebg", b"/v1/uploads"):
            start = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n" % (path, kind)
            start += f"Authorization: Bearer {api.key}\r\n".encode()
            with socket.create_connection(("127.0.0.1", api.port)) as connection:
                connection.sendall(start + b"Content-Length: 1000\r\n\r\n--x\r\n")


def test_unknown_methods_and_paths_add_no_metric_labels(
    anyone: httpx.Client, owner: httpx.Client
) -> None:
    def requests_seen() -> set[str]:
        lines = anyone.get("/metrics").text.splitlines()
        return {
            line.split("le=")[0] for line in lines if line.startswith("matting_request_seconds")
        }

    for client in (anyone, owner):
        for path in ("/v1/jobs", "/nothing"):
            client.request("BREW", path)
            client.get(path)
    before = {line.rpartition(" ")[0] for line in requests_seen()}
    assert any('method="other"' in line for line in before), before
    for number in range(50):
        for client in (anyone, owner):
            client.request(f"A{number}", "/v1/jobs")
            client.request(f"A{number}", f"/nothing-{number}")
            client.get(f"/nothing-{number}")
    after = {line.rpartition(" ")[0] for line in requests_seen()}
    assert {line for line in after - before if "/metrics" not in line} == set()


def test_a_body_without_a_length_is_limited_while_it_arrives(api: Api) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    headers = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"}
    chunks = (b" " * 65_536 for _ in range(200))
    try:
        connection.request("POST", "/v1/jobs", body=chunks, headers=headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was cut off while it was sending
    finally:
        connection.close()


@pytest.mark.parametrize("key", [False, True])
def test_a_body_in_tiny_chunks_is_refused(api: Api, key: bool) -> None:
    given = f"Authorization: Bearer {api.key}\r\n" if key else ""
    request = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n{given}Content-Type: application/json\r\n"
    request += "Transfer-Encoding: chunked\r\n\r\n"
    tiny = b"1\r\n \r\n" * 100_000
    answer = raw(api, request.encode() + tiny + b"0\r\n\r\n")
    assert answer == b"" or re.match(rb"HTTP/1.1 40[01]", answer), answer[:99]
    body = b'{"source": {"keys": ["a.jpg"]}}'
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    request = request.replace("Host: x\r\n", "Host: x\r\nConnection: close\r\n")
    answer = raw(api, request.encode() + pieces + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 202" if key else b"HTTP/1.1 401"), "few are no attack"


def test_a_stalled_body_times_out(api: Api) -> None:
    request = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n"
    request += "Content-Type: application/json\r\nConnection: close\r\n"
    request += "Content-Length: 1000\r\n\r\n{"
    answer = raw(api, request.encode())
    assert b" 408 " in answer.splitlines()[0]
    assert b"request-timeout" in answer


def test_endless_headers_time_out(api: Api) -> None:
    unfinished = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    attacks = ((b"", 0), (unfinished, 0), (unfinished + b"\r\n" + unfinished, 1))
    with ThreadPoolExecutor(len(attacks)) as pool:
        received = list(pool.map(lambda attack: until_closed(api, attack[0]), attacks))
    assert [one.count(b"HTTP/1.1 200") for one in received] == [count for _, count in attacks]


def until_closed(api: Api, sent: bytes) -> bytes:
    """Read the answer until the server closes the connection, which it must do."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=HEADERS_S + 60) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(1_000), b""))


def test_idle_connections_do_not_block_other_clients(api: Api, owner: httpx.Client) -> None:
    idle = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(300)]
    try:
        for connection in idle[::2]:
            connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert owner.get("/v1/jobs").status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_every_answer_has_security_headers(anyone: httpx.Client, owner: httpx.Client) -> None:
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


def test_bytes_behind_the_last_response_of_a_connection_leave_no_trace(api: Api) -> None:
    for _ in range(10):
        answer = raw(api, b"POST /v1/jobs HTTP/1.0\r\n\r\n" + bytes(2_000_000))
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401")), answer[:99]
