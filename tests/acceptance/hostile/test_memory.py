"""The memory that strangers and single customers can make the API use, one row per attack."""

import base64
import io
import itertools
import json
import socket
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.hostile.api import Api, wait_for_items
from tests.process_memory import MIB, growth_of

pytestmark = pytest.mark.timeout(180)

REACH_BYTES = 20 * MIB
"""Limit for all requests of strangers together."""

OBJECTS = b"[" + b"{}," * 6_999_999 + b"{}]"
"""20 MB of JSON. As Python objects they need thirty times as much."""

KEYS = (None, "mtk_" + "x" * 43)
"""No key, and a key that does not exist."""

ROUTES = ("/v1/jobs", "/v1/uploads", "/v1/webhooks", "/v1.0/removebg", "/v1/jobs/x/retry")

JSON = "Content-Type: application/json\r\n"
FORM = "Content-Type: multipart/form-data; boundary=x\r\n"
URLENCODED = "Content-Type: application/x-www-form-urlencoded\r\n"

TEXT_PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


def send(api: Api, path: str, headers: str, body: bytes, *, key: str | None = None) -> bytes:
    """Send a request until the server stops reading. Returns the first bytes of the answer."""
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
    """Path, headers and body of each attack."""
    for path in ROUTES:
        yield path, JSON + length(OBJECTS), OBJECTS
    yield "/v1/uploads", JSON + "Transfer-Encoding: chunked\r\n", chunked(OBJECTS)
    yield "/v1/uploads", "Content-Type: multipart/x\r\n" + length(OBJECTS), OBJECTS
    yield "/v1/uploads", JSON + FORM + length(OBJECTS), OBJECTS
    yield "/v1/jobs", FORM + length(TEXT_PART + OBJECTS), TEXT_PART + OBJECTS
    yield "/v1.0/removebg", FORM + length(TEXT_PART + OBJECTS), TEXT_PART + OBJECTS
    yield "/v1.0/removebg", URLENCODED + length(OBJECTS), OBJECTS


@pytest.fixture(scope="module")
def warm(roomy: Api) -> Api:
    """Let threads and connections allocate their first memory, which must not count."""
    with ThreadPoolExecutor(100) as pool:
        list(pool.map(lambda key: send(roomy, "/v1/jobs", length(b""), b"", key=key), KEYS * 200))
    return roomy


def test_a_hundred_bodies_of_strangers_use_almost_no_memory(warm: Api) -> None:
    requests = list(zip(itertools.cycle(attacks()), itertools.cycle(KEYS), range(100)))
    with growth_of(warm.process.popen.pid) as growth, ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda one: send(warm, *one[0], key=one[1]), requests))
    assert all(one[9:12] in (b"400", b"401", b"403", b"") for one in answers), answers
    assert growth.peak_bytes < REACH_BYTES


def test_a_hundred_strangers_at_once_use_little_memory(warm: Api) -> None:
    body = OBJECTS[: 8 * MIB]
    with growth_of(warm.process.popen.pid) as growth, ThreadPoolExecutor(100) as pool:
        headers = JSON + length(body)
        list(pool.map(lambda key: send(warm, "/v1/jobs", headers, body, key=key), KEYS * 50))
    assert growth.peak_bytes < REACH_BYTES


def many_objects() -> bytes:
    return b'{"source": {"keys": [' + b",".join([b"{}"] * 350_000) + b"]}}"


def unknown_fields() -> bytes:
    return b"{" + b",".join(b'"%d":1' % number for number in range(500_000)) + b"}"


FILE = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d"\r\n\r\n'


def many_files() -> bytes:
    return b"".join(FILE % n + bytes(MIB - 100) + b"\r\n" for n in range(100)) + b"--x--\r\n"


SHORT_HEADER = b"X-Y: z\r\n"
LONG_HEADER = b"--x\r\nContent-Disposition: form-data; name=a; x="

CUSTOMERS: dict[str, tuple[str, str, Callable[[], bytes], int]] = {
    "a list of nothings": ("/v1/jobs", JSON, lambda: b'{"source": {"keys": ' + OBJECTS + b"}}", 40),
    "fewer nothings": ("/v1/jobs", JSON, many_objects, 150),
    "fields that are unknown": ("/v1/jobs", JSON, unknown_fields, 300),
    "small routes": ("/v1/uploads", JSON, lambda: OBJECTS, 10),
    "small routes as multipart": ("/v1/uploads", FORM, lambda: OBJECTS, 10),
    "escaped": (
        "/v1.0/removebg", URLENCODED, lambda: b"image_file_b64=" + b"%41" * (5 * MIB), 40,
    ),
    "a list to removebg": ("/v1.0/removebg", JSON, lambda: OBJECTS, 40),
    "many files": ("/v1/jobs", FORM, many_files, 40),
    "long text": ("/v1/jobs", FORM, lambda: TEXT_PART + OBJECTS, 10),
    "long text to removebg": ("/v1.0/removebg", FORM, lambda: TEXT_PART + OBJECTS, 10),
    "a long header of a part": ("/v1/jobs", FORM, lambda: LONG_HEADER + b"y" * 30 * MIB, 10),
    "many headers of a part": ("/v1/jobs", FORM, lambda: b"--x\r\n" + SHORT_HEADER * (3 * MIB), 10),
    "a preamble": ("/v1/jobs", FORM, lambda: b"\r\n" + bytes(40 * MIB), 10),
    "an epilogue": (
        "/v1/jobs", FORM, lambda: FILE % 1 + b"\r\n--x--\r\n" + bytes(40 * MIB), 10,
    ),
}  # fmt: skip
"""Path, headers, body, and the memory limit in MiB for such a request with a valid key."""


@pytest.mark.parametrize("name", CUSTOMERS)
def test_a_customer_s_request_uses_limited_memory(warm: Api, name: str) -> None:
    path, headers, make, most_mib = CUSTOMERS[name]
    body = make()
    with growth_of(warm.process.popen.pid) as growth:
        answer = send(warm, path, headers + length(body), body, key=warm.key)
    assert answer[9:10] in (b"2", b"4"), answer
    assert growth.peak_bytes < most_mib * MIB


def bodies_of(photo: bytes) -> dict[str, tuple[str, bytes]]:
    """The same call in all its forms: headers and body."""
    encoded = base64.b64encode(photo)
    file = b'--x\r\nContent-Disposition: form-data; name="image_file"; filename="x.jpg"\r\n\r\n'
    text = b'--x\r\nContent-Disposition: form-data; name="image_file_b64"\r\n\r\n'
    end = b"\r\n--x--\r\n"
    return {
        "multipart": (FORM, file + photo + end),
        "multipart with Base64": (FORM, text + encoded + end),
        "JSON": (JSON, b'{"image_file_b64": "' + encoded + b'"}'),
        "form": (URLENCODED, b"image_file_b64=" + encoded.replace(b"+", b"%2B")),
    }


@pytest.mark.parametrize(
    ("form", "most_mib"),
    [("multipart", 60), ("multipart with Base64", 60), ("JSON", 250), ("form", 160)],
)
def test_photos_of_waiting_calls_are_not_kept_in_memory(
    warm: Api, jpeg: bytes, form: str, most_mib: int
) -> None:
    headers, body = bodies_of(jpeg + bytes(45 * MIB - len(jpeg)))[form]
    headers += length(body)

    def call(_: int) -> bytes:
        return send(warm, "/v1.0/removebg", headers, body, key=warm.key)[9:12]

    with growth_of(warm.process.popen.pid) as growth, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(call, range(8)))
    assert set(statuses) <= {b"504", b"503", b"429"}  # no worker runs
    assert b"504" in statuses
    assert growth.peak_bytes < most_mib * MIB


def test_a_zip_of_zeros_is_unpacked_in_little_memory(warm: Api) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(12):
            archive.writestr(f"{number}.bmp", bytes(40 * MIB), compresslevel=1)
    with warm.caller() as client, growth_of(warm.process.popen.pid) as growth:
        answer = client.post("/v1/jobs", files={"zip": ("x.zip", packed.getvalue())})
        wait_for_items(client, answer.json()["id"], 12, timeout_s=120)
        assert client.delete(f"/v1/jobs/{answer.json()['id']}").status_code == 204
    assert growth.peak_bytes < 180 * MIB


def test_rows_of_brackets_are_listed_in_little_memory(warm: Api) -> None:
    row = b'{"key": "s3://photos/%d.jpg", "a": [' + b"[]," * 5_000 + b"[]]}\n"
    rows = b"".join(row % number for number in range(1_000))
    with warm.caller() as client, growth_of(warm.process.popen.pid) as growth:
        answer = client.post("/v1/jobs", files={"manifest": ("x.jsonl", rows)})
        wait_for_items(client, answer.json()["id"], 1_000, timeout_s=120)
    assert growth.peak_bytes < 120 * MIB


def test_pages_of_rows_with_very_many_columns_use_little_memory(warm: Api) -> None:
    """Each such page of 1,000 images needed 100 MB, and a page of 1,000 jobs as much."""
    columns = {f"c{number}": "abc" for number in range(900)}
    rows = (json.dumps({"key": f"s3://photos/{number}.jpg", **columns}) for number in range(400))
    metadata = {f"m{number}": "x" * 1_900 for number in range(50)}
    with warm.caller() as client:
        manifest = {"manifest": ("x.jsonl", "\n".join(rows).encode())}
        job_id = client.post("/v1/jobs", files=manifest).json()["id"]
        wait_for_items(client, job_id, 400, timeout_s=120)
        source = {"keys": ["s3://photos/a.jpg"]}
        for _ in range(60):
            body = {"source": source, "metadata": metadata}
            assert client.post("/v1/jobs", json=body).status_code == 202

    def read(path: str) -> int:
        with warm.caller() as client:
            answer = client.get(path)
            assert answer.status_code == 200, answer.text[:500]
            return len(answer.content)

    paths = [
        f"/v1/jobs/{job_id}/items?limit=1000",
        f"/v1/jobs/{job_id}/report.jsonl",
        f"/v1/jobs/{job_id}/report.csv",
        "/v1/jobs?limit=1000",
    ]
    with growth_of(warm.process.popen.pid) as growth, ThreadPoolExecutor(16) as pool:
        sizes = list(pool.map(read, paths * 4))
    assert growth.peak_bytes < 250 * MIB
    assert max(sizes[0], sizes[3]) < 5 * MIB
    with warm.caller() as client:
        seen: list[int] = []
        following = paths[0]
        while following:
            page = client.get(following).json()
            seen += [item["position"] for item in page["items"]]
            cursor = page["next_cursor"]
            following = f"{paths[0]}&cursor={cursor}" if cursor else ""
        assert seen == list(range(1, 401))
