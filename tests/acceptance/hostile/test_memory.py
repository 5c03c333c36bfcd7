"""What strangers and single customers can make the API hold in memory; one row an attack."""

import itertools
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.hostile.api import Api
from tests.process_memory import MIB, growth_of

pytestmark = pytest.mark.timeout(120)

REACH_BYTES = 20 * MIB
"""What all requests of a stranger together may add."""

OBJECTS = b"[" + b",".join(itertools.repeat(b"{}", 7_000_000)) + b"]"
"""20 MB of JSON, which take thirty times as much as Python objects."""

KEYS = (None, "mtk_" + "x" * 43)
"""None, and one that nobody has."""

ROUTES = ("/v1/jobs", "/v1/uploads", "/v1/webhooks", "/v1.0/removebg", "/v1/jobs/x/retry")


def send(api: Api, path: str, headers: str, body: bytes, *, key: str | None = None) -> bytes:
    """The first bytes of the answer to a request whose body is sent as far as it is taken."""
    given = f"Authorization: Bearer {key}\r\n" if key else ""
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{given}{headers}\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
        try:
            connection.sendall(start.encode())
            connection.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return connection.recv(1_000)
        except ConnectionResetError:
            return b""


def length(body: bytes) -> str:
    return f"Content-Length: {len(body)}\r\n"


def chunked(body: bytes) -> bytes:
    parts = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def attacks() -> Iterator[tuple[str, str, bytes]]:
    """Path, headers and body of each."""
    json = "Content-Type: application/json\r\n"
    for path in ROUTES:
        yield path, json + length(OBJECTS), OBJECTS
    yield "/v1/uploads", json + "Transfer-Encoding: chunked\r\n", chunked(OBJECTS)
    yield "/v1/uploads", "Content-Type: multipart/x\r\n" + length(OBJECTS), OBJECTS
    twice = json + "Content-Type: multipart/form-data; boundary=x\r\n"
    yield "/v1/uploads", twice + length(OBJECTS), OBJECTS
    form = "Content-Type: multipart/form-data; boundary=x\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
    yield "/v1/jobs", form + length(part + OBJECTS), part + OBJECTS
    yield "/v1.0/removebg", form + length(part + OBJECTS), part + OBJECTS
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    yield "/v1.0/removebg", form + length(OBJECTS), OBJECTS


@pytest.fixture(scope="module")
def warm(roomy: Api) -> Api:
    """What threads and connections take the first time is nobody's."""
    with ThreadPoolExecutor(100) as pool:
        list(pool.map(lambda key: send(roomy, "/v1/jobs", length(b""), b"", key=key), KEYS * 200))
    return roomy


def test_hundred_bodies_of_strangers_take_next_to_no_memory(warm: Api) -> None:
    with growth_of(warm.process.popen.pid) as growth, ThreadPoolExecutor(10) as pool:
        jobs = list(itertools.islice(itertools.cycle(attacks()), int(os.environ.get("N", "100"))))
        keys = itertools.cycle(KEYS)
        answers = list(
            pool.map(lambda one: send(warm, *one[0], key=one[1]), zip(jobs, keys, strict=False))
        )
    print(growth, sorted({one[:12] for one in answers}))
    assert all(one[9:12] in (b"400", b"401", b"403", b"") for one in answers)
    assert growth.peak_bytes < REACH_BYTES


def test_hundred_bodies_at_once_take_little_memory(warm: Api) -> None:
    body = OBJECTS[: 8 * MIB]
    headers = "Content-Type: application/json\r\n" + length(body)
    with growth_of(warm.process.popen.pid) as growth, ThreadPoolExecutor(100) as pool:
        list(pool.map(lambda _: send(warm, "/v1/jobs", headers, body), range(100)))
    print(growth)
    assert growth.peak_bytes < REACH_BYTES
