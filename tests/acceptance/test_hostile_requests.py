"""Callers who mean harm, one row an attack, against a real API process on PostgreSQL."""

import http.client
import io
import json
import os
import re
import socket
import sys
import time
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from deploy.processes import Process, answers, free_port, start, wait_until
from shared import job_store
from shared.database import Database
from shared.settings import Settings
from shared.storage import Storage

pytestmark = pytest.mark.timeout(60)

PATIENCE_S = 1
HEADERS_S = 3
LIMITS = {
    "MATTING_MAX_JSON_BYTES": str(2 * 1024**2),
    "MATTING_MAX_REQUEST_BYTES": str(4 * 1024**2),
    "MATTING_MAX_FILES_PER_REQUEST": "10",
    "MATTING_BODY_TIMEOUT_S": str(PATIENCE_S),
    "MATTING_HEADERS_TIMEOUT_S": str(HEADERS_S),
    "MATTING_SOURCE_BUCKETS": "photos",
    "MATTING_LOG_LEVEL": "WARNING",
}
OPEN = {"/healthz", "/readyz", "/metrics"}
DEEP = 100_000
NOWHERE = "0190a1b2-0000-7000-8000-000000000000"
"""The id of nothing; the same in every process, as it stands in names of tests."""


@dataclass(frozen=True)
class Api:
    port: int
    key: str
    strangers_key: str
    process: Process
    database: Database

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def caller(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        limits = httpx.Limits(keepalive_expiry=0.5)  # a busy machine makes the server impatient
        return httpx.Client(
            base_url=self.url, headers=headers, trust_env=False, timeout=20, limits=limits
        )


@pytest.fixture(scope="module")
def api(
    postgresql_url: str,
    redis_url: str,
    s3: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    folder, port = tmp_path_factory.mktemp("hostile"), free_port()
    database = Database(postgresql_url, process="tests")
    database.migrate()
    with database.transaction() as session:
        keys = [job_store.create_api_key(session, name)[1] for name in ("owner", "stranger")]
    names = {"s3_endpoint_url": "MATTING_S3_ENDPOINT_URL"}
    env = os.environ | LIMITS | {names.get(key, key.upper()): one for key, one in s3.items()}
    env |= {"MATTING_DATABASE_URL": postgresql_url, "MATTING_REDIS_URL": redis_url}
    command = [
        "uvicorn",
        "api.app:app",
        "--http",
        "api.connections:Patience",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command = [sys.executable, "-m", *command, "--log-level", "warning"]
    process = start("api", command, log=folder / "api.log", folder=folder, env=env)
    wait_until(lambda: answers(port), process, timeout_s=60)
    yield Api(port, keys[0], keys[1], process, database)
    process.stop(10)
    database.close()


@pytest.fixture
def owner(api: Api) -> Iterator[httpx.Client]:
    with api.caller() as client:
        yield client


@pytest.fixture
def anyone(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, trust_env=False) as client:
        yield client


def assert_refused(answer: httpx.Response, *statuses: int) -> None:
    """A problem of the caller's, told as one, and no crash."""
    assert answer.status_code in (statuses or range(400, 500)), answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:500]
    assert answer.json()["code"]


def routes(anyone: httpx.Client) -> list[tuple[str, str]]:
    """Every method and path, from the API's own description."""
    paths = anyone.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def filled(path: str, **values: str) -> str:
    """A path with its ids."""
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1], str(uuid.uuid4())), path)


# --- no key ---------------------------------------------------------------------------------------


def test_no_route_but_health_and_docs_answers_without_a_key(anyone: httpx.Client) -> None:
    closed = [(method, path) for method, path in routes(anyone) if path not in OPEN]
    assert len(closed) > 25
    for method, path in closed:
        for twist in (path, path + "/", path.replace("/v1", "//v1"), path.upper()):
            status = anyone.request(method, filled(twist, index="1")).status_code
            # remove.bg's own API says 403.
            expected = 403 if path.startswith("/v1.0") else 401
            assert status in (expected, *(() if twist == path else (307, 404, 405))), (
                method,
                twist,
            )
        for other in ("HEAD", "OPTIONS", "TRACE", "BREW"):
            assert anyone.request(other, filled(path, index="1")).status_code in (401, 403, 405)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "bearer x y"},
        {"Authorization": "Bearer null"},
        {"Authorization": "Bearer mtk_' OR 1=1 --"},
        {"Authorization": "Bearer " + "x" * 30_000},
        {"Authorization": b"Bearer \xff\xfe\x80"},
        {"Authorization": "Basic bXRrX3g6"},
        {"X-Api-Key": ""},
        {"X-Api-Key": b"\xc3\x28"},
        {"X-Api-Key": "mtk_*"},
        {"X-Forwarded-For": "127.0.0.1", "X-Original-URL": "/healthz"},
        {"Cookie": "api_key=mtk_x; session=1"},
    ],
)
def test_what_is_no_key_opens_nothing(
    anyone: httpx.Client, headers: dict[str, str | bytes]
) -> None:
    given = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    assert_refused(anyone.get("/v1/jobs", headers=given), 401)


def test_a_key_counts_in_the_header_only_and_whole(api: Api, anyone: httpx.Client) -> None:
    assert_refused(anyone.get("/v1/jobs", params={"api_key": api.key, "token": api.key}), 401)
    for nearly in (api.key[:-1], api.key + "x", api.key.swapcase(), f" {api.key[4:]}"):
        with api.caller(nearly) as client:
            assert_refused(client.get("/v1/jobs"), 401)


def test_the_database_holds_no_key_and_a_revoked_one_is_none(api: Api) -> None:
    with api.database.transaction() as session:
        key, secret = job_store.create_api_key(session, "soon gone")
        rows = session.connection().exec_driver_sql("SELECT * FROM api_keys").fetchall()
    assert secret not in str(rows)
    assert api.key not in str(rows)
    with api.caller(secret) as client:
        assert client.get("/v1/jobs").status_code == 200
        with api.database.transaction() as session:
            job_store.revoke_api_key(session, key.id)
        assert_refused(client.get("/v1/jobs"), 401)


# --- another's ------------------------------------------------------------------------------------


def test_whatever_is_anothers_is_not_there(api: Api, owner: httpx.Client) -> None:
    job = owner.post("/v1/jobs", json={"source": {"keys": ["s3://photos/a.jpg"]}}).json()
    items = owner.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    hook = owner.post("/v1/webhooks", json={"url": "https://shop.example/hook"})
    assert hook.status_code in (200, 201), hook.text
    ids = {"job_id": job["id"], "item_id": items[0]["id"], "webhook_id": hook.json()["id"]}
    ids |= {"index": "0", "delivery_id": str(uuid.uuid4())}
    bodies = {"/v1/items/{item_id}/review": {"verdict": "accept"}}
    bodies["/v1/webhooks/{webhook_id}"] = {"url": "https://evil.example/"}
    with api.caller(api.strangers_key) as stranger:
        asked = [one for one in routes(stranger) if "{" in one[1]]
        assert len(asked) >= 20
        for method, path in asked:
            with stranger.stream(method, filled(path, **ids), json=bodies.get(path)) as answer:
                answer.read()
                assert answer.status_code == 404, (method, path, answer.text)
        listed = stranger.get("/v1/jobs").json()["jobs"]
        assert job["id"] not in [one["id"] for one in listed]
        assert stranger.get("/v1/webhooks").json()["webhooks"] == []
        for params in ({"job_id": ids["job_id"]}, {"webhook_id": ids["webhook_id"]}):
            deliveries = stranger.get("/v1/deliveries", params=params)
            assert deliveries.status_code == 404 or deliveries.json()["deliveries"] == []
    after = owner.get(f"/v1/jobs/{job['id']}").json()
    assert (after["status"], after["counts"]) == (job["status"], job["counts"])
    assert owner.get(f"/v1/webhooks/{ids['webhook_id']}").json()["url"] == hook.json()["url"]


def test_anothers_idempotency_key_gives_nothing_of_the_other(api: Api, owner: httpx.Client) -> None:
    headers = {"Idempotency-Key": "the same"}
    body = {"source": {"keys": ["s3://photos/a.jpg"]}}
    mine = owner.post("/v1/jobs", json=body, headers=headers).json()
    with api.caller(api.strangers_key) as stranger:
        theirs = stranger.post("/v1/jobs", json=body, headers=headers).json()
    assert theirs["id"] != mine["id"]


def test_anothers_upload_is_no_source_of_any_kind(api: Api, owner: httpx.Client) -> None:
    handle = owner.post("/v1/uploads", json={"count": 1}).json()["uploads"][0]["upload"]
    sources = [
        {"uploads": [{"upload": handle, "name": "a.jpg"}]},
        {"keys": [handle]},
        {"keys": [f"s3://matting/{handle}"]},
        {"manifest": handle},
        {"zip": handle},
        {"prefix": f"s3://matting/{handle[:-4]}"},
    ]
    with api.caller(api.strangers_key) as stranger:
        for source in sources:
            assert_refused(stranger.post("/v1/jobs", json={"source": source}), 403)
        picture = {"background": f"s3://matting/{handle}"}
        behind = {"source": {"keys": ["s3://photos/a.jpg"]}, "options": picture}
        assert_refused(stranger.post("/v1/jobs", json=behind), 403)


# --- places ---------------------------------------------------------------------------------------

PLACES = [
    "jobs/x/results/y.png",
    "s3://matting/jobs/x/results/y.png",
    "s3://matting/uploads/someone/x",
    "s3://matting//jobs/x.png",
    "s3://matting/./jobs/x.png",
    "s3://matting/a/../jobs/x.png",
    "s3://matting/a/%2e%2e/jobs/x.png",
    "s3://matting/a/%252e%252e/jobs/x.png",
    "s3://matting/%6aobs/x.png",
    "s3://matting/a/..\\jobs/x.png",
    "s3://matting/\uff4a\uff4f\uff42\uff53/x.png",
    "s3://matting/a/\uff0e\uff0e/jobs/x.png",
    "s3://matting/a/\u2024\u2024/jobs/x.png",
    "s3://matting/jobs\uff0fx.png",
    "s3://matting/\tjobs/x.png",
    "s3://secrets/x.png",
    "s3://photos/../secrets/x.png",
    "s3://photos/../../etc/passwd",
    "s3://photos@secrets/x.png",
    "s3://photos%2f..%2fsecrets/x.png",
    "s3://PHOTOS/x.png",
    "s3:///jobs/x.png",
    "/etc/passwd",
    "../../etc/passwd",
]


@pytest.mark.parametrize("place", PLACES)
def test_no_kind_of_source_leads_out_of_what_is_allowed(owner: httpx.Client, place: str) -> None:
    for source in ({"keys": [place]}, {"prefix": place}, {"manifest": place}, {"zip": place}):
        answer = owner.post("/v1/jobs", json={"source": source})
        assert_refused(answer, 403, 422)
    picture = {"source": {"keys": ["s3://photos/a.jpg"]}, "options": {"background": place}}
    assert_refused(owner.post("/v1/jobs", json=picture), 403, 422)


@pytest.mark.parametrize("prefix", ["s3://matting/", "s3://matting/j", "jobs", "s3://matting/up"])
def test_no_prefix_reaches_around_the_own_files(owner: httpx.Client, prefix: str) -> None:
    assert_refused(owner.post("/v1/jobs", json={"source": {"prefix": prefix}}), 403)


HOSTILE_ROWS = [
    '{"key": "s3://photos/\\u0000.jpg"}',
    '{"key": "s3://photos/\\ud800.jpg"}',
    '{"url": "http://photos.example/\\ud800.jpg"}',
    '{"key": "s3://photos/c.jpg", "note": "\\u0000"}',
    '{"key": "s3://photos/c.jpg", "note": "\\udfff"}',
    '{"key": "s3://photos/c.jpg", "note": NaN}',
    '{"key": "s3://photos/c.jpg", "note": ' + "9" * 10_000 + "}",
    '{"key": "s3://photos/c.jpg", "note": ' + "[" * 30_000 + "]" * 30_000 + "}",
    '{"key": "s3://photos/c.jpg", "note": "' + "x" * 20_000 + '"}',
    '{"key": "s3://photos/c.jpg", "options": {"name": "\\u0000"}}',
    '{"key": "s3://photos/c.jpg", "options": {"background": "\\ud800"}}',
    '{"key": "s3://photos/c.jpg", "options": 5}',
    '{"key": {"a": 1}, "url": []}',
    "[" * 60_000,
    "null",
]


def test_rows_of_a_manifest_are_looked_at_like_the_rest(owner: httpx.Client) -> None:
    rows = [*PLACES, "s3://photos/fine.jpg"]
    lines = "".join(json.dumps({"key": place}) + "\n" for place in rows)
    lines += '{"key": "s3://photos/x.jpg", "options": {"background": "s3://matting/jobs/x.png"}}\n'
    lines += '{"url": "file:///etc/passwd"}\n{"url": "http://user:word@photos.example/x.jpg"}\n'
    lines += "".join(line + "\n" for line in HOSTILE_ROWS)
    files = {"manifest": ("rows.jsonl", lines.encode())}
    job = owner.post("/v1/jobs", files=files).json()
    wait_for_items(owner, job["id"], len(rows) + 3 + len(HOSTILE_ROWS))
    items = owner.get(f"/v1/jobs/{job['id']}/items", params={"limit": 100}).json()["items"]
    fine = [item["name"] for item in items if item["error"] is None]
    assert fine == ["fine.jpg"]
    assert {item["error"]["code"] for item in items if item["error"]} == {
        "bad-manifest-row",
        "forbidden-source",
        "forbidden-url",
        "invalid-options",
    }
    # And those that come after are listed as ever.
    after = owner.post("/v1/jobs", files={"manifest": ("rows.csv", b"key\ns3://photos/a.jpg\n")})
    wait_for_items(owner, after.json()["id"], 1)


def test_keys_of_a_prefix_become_names_that_lead_nowhere(
    owner: httpx.Client, settings: Settings
) -> None:
    bucket = Storage(settings.model_copy(update={"s3_bucket": "photos"}))
    for key in ("slip/sub/b.jpg", "slip/..\\..\\c.jpg", "slip/ d .jpg"):
        bucket.put(key, b"x", "image/jpeg")
    bucket.close()
    job = owner.post("/v1/jobs", json={"source": {"prefix": "s3://photos/slip/"}}).json()
    wait_for_items(owner, job["id"], 3)
    items = owner.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert {item["name"] for item in items} == {"sub/b.jpg", "c.jpg", "d .jpg"}


def hostile_zip(jpeg: bytes) -> bytes:
    """Names that lead away, a link, and more than its headers say."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("../../slip.jpg", "/etc/root.jpg", "C:\\x\\drive.jpg", "a/../../up.jpg"):
            archive.writestr(zipfile.ZipInfo(name), jpeg)
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16  # a symbolic link, as Unix zips them
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.jpg", bytes(60 * 1024**2))
        archive.writestr("inner.zip", bytes(1_000))
        archive.writestr("run.sh", "rm -rf /")
    return buffer.getvalue()


def test_a_zip_that_means_harm_fails_in_its_parts_alone(
    owner: httpx.Client, storage: Storage, jpeg: bytes
) -> None:
    before = set(storage.list_keys(""))
    job = owner.post("/v1/jobs", files={"zip": ("photos.zip", hostile_zip(jpeg))}).json()
    wait_for_items(owner, job["id"], 6)
    items = owner.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert {item["name"]: item["error"] and item["error"]["code"] for item in items} == {
        "slip.jpg": None,
        "etc/root.jpg": None,
        "x/drive.jpg": None,
        "a/up.jpg": None,
        "link.jpg": None,  # a file of eleven letters, which is no photo
        "bomb.jpg": "file-too-large",
    }
    added = set(storage.list_keys("")) - before
    assert all(key.startswith(f"jobs/{job['id']}/") for key in added), added


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x05\x06" + b"\xff" * 18,
        b"PK\x05\x06" + bytes(18),
        b"PK\x03\x04" + bytes(400),
        b"PK\x06\x06" + b"\xff" * 52 + b"PK\x05\x06" + b"\xff" * 18,
        b"<html>",
    ],
)
def test_what_is_no_zip_ends_its_job_with_a_reason(owner: httpx.Client, data: bytes) -> None:
    answer = owner.post("/v1/jobs", files={"zip": ("photos.zip", data)})
    assert answer.status_code in (202, 400, 422), answer.text
    if answer.status_code == 202:
        path, deadline = f"/v1/jobs/{answer.json()['id']}", time.monotonic() + 20
        while (job := owner.get(path).json())["status"] != "finished":
            assert time.monotonic() < deadline, "it was not looked at"
            time.sleep(0.1)
        assert job["error"]["code"] in ("bad-archive", "source-empty")


CSV_ROWS = b"""key,id,note,options
s3://photos/1.jpg,\x00,a,
s3://photos/2.jpg,2,\x00,
s3://photos/3.jpg,3,c,%s
s3://photos/4.jpg,4,d,%s
s3://photos/\x00.jpg,5,e,
s3://photos/fine.jpg,6,f,
""" % (b"[" * 60_000, b"9" * 10_000)


def test_rows_of_a_spreadsheet_that_mean_harm_fail_alone(owner: httpx.Client) -> None:
    job = owner.post("/v1/jobs", files={"manifest": ("rows.csv", CSV_ROWS)}).json()
    wait_for_items(owner, job["id"], 6)
    items = owner.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert [item["name"] for item in items if item["error"] is None] == ["1.jpg", "fine.jpg"]


def wait_for_items(owner: httpx.Client, job_id: str, count: int) -> None:
    deadline = time.monotonic() + 20
    while owner.get(f"/v1/jobs/{job_id}").json()["counts"]["total"] < count:
        assert time.monotonic() < deadline, "the manifest is not listed"
        time.sleep(0.1)


# --- bodies ---------------------------------------------------------------------------------------


def nested(depth: int, opening: str, closing: str, middle: str = "1") -> str:
    return opening * depth + middle + closing * depth


def job_with(**fields: str) -> str:
    """A job's body whose fields are given as JSON text."""
    given = {"source": '{"keys": ["s3://photos/a.jpg"]}'} | fields
    return "{" + ", ".join(f'"{name}": {text}' for name, text in given.items()) + "}"


BODIES = {
    "an array without end": "[" * DEEP,
    "a deep array": nested(DEEP, "[", "]"),
    "a deep object": nested(DEEP, '{"source":', "}"),
    "deep metadata": job_with(metadata=nested(DEEP, '{"a":', "}")),
    "deep options": job_with(options='{"background": ' + nested(DEEP, "[", "]") + "}"),
    "deep options of a row": job_with(
        source='{"keys": [{"key": "a.jpg", "options": ' + nested(DEEP, '{"a":', "}") + "}]}"
    ),
    "a number beyond all": job_with(priority="1" + "0" * 100_000),
    "an infinite number": job_with(priority="1e999"),
    "not a number": job_with(priority="NaN"),
    "a share beyond all": job_with(failure_share="1e308"),
    "a count beyond the column": job_with(failure_after=str(2**31)),
    "a count far beyond the column": job_with(failure_after=str(2**63)),
    "a zero byte in a key": job_with(source='{"keys": ["s3://photos/a\\u0000.jpg"]}'),
    "a zero byte in metadata": job_with(metadata='{"a": "b\\u0000"}'),
    "a zero byte in a metadata name": job_with(metadata='{"a\\u0000": "b"}'),
    "a zero byte in an id": job_with(source='{"keys": [{"key": "a.jpg", "id": "\\u0000"}]}'),
    "a zero byte in a template": job_with(options='{"name": "a\\u0000{ext}"}'),
    "half a character": job_with(source='{"keys": ["s3://photos/\\ud800.jpg"]}'),
    "half a character in metadata": job_with(metadata='{"a": "\\udfff"}'),
    "a template that reads objects": job_with(options='{"name": "{stem.__class__}.{ext}"}'),
    "a template that pads": job_with(options='{"name": "{stem:>999999999}.{ext}"}'),
    "a template that leads away": job_with(options='{"name": "../../{stem}.{ext}"}'),
    "much metadata": job_with(metadata=json.dumps({str(n): "x" for n in range(51)})),
    "long metadata": job_with(metadata=json.dumps({"a": "x" * 1_000_000})),
    "a long key": job_with(source=json.dumps({"keys": ["x" * 2_000]})),
    "a field of a kind's own": job_with(__proto__="{}"),
    "a huge canvas": job_with(options='{"canvas": "99999x99999", "enlarge": true}'),
    "many outputs": job_with(
        options=json.dumps({"extra_outputs": [{"name": f"{n}.{{ext}}"} for n in range(1_000)]})
    ),
    "no UTF-8": b'{"source": {"keys": ["\xff\xfe"]}}'.decode("latin-1"),
    "a comment": "{/* */}",
    "nothing": "",
    "a text": '"source"',
    "two roots": "{}{}",
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_the_callers_problem(api: Api, owner: httpx.Client, name: str) -> None:
    headers = {"Content-Type": "application/json"}
    content = BODIES[name].encode("latin-1" if name == "no UTF-8" else "utf-8")
    answer = owner.post("/v1/jobs", content=content, headers=headers)
    assert_refused(answer, 400, 403, 413, 422)
    assert len(answer.content) < 20_000, "what was sent is not sent back"
    for path in ("/v1.0/removebg", "/v1/webhooks", "/v1/uploads"):
        status = owner.post(path, content=content, headers=headers).status_code
        assert 400 <= status < 500, path
    assert api.process.alive()


FORMS = {
    "options": [nested(DEEP, "[", "]"), '{"name": "\\u0000"}', "\ud7ff", "{" * DEEP, "NaN"],
    "metadata": [nested(DEEP, '{"a":', "}"), '{"a": "\\u0000"}', '{"a": "\\ud800"}', "[]", "1"],
    "priority": ["9" * 5_000, "-1", "NaN", "1e9", "\0"],
    "failure_after": [str(2**63), "0"],
}


@pytest.mark.parametrize("field", FORMS)
def test_a_hostile_field_of_a_form_is_the_callers_problem(
    owner: httpx.Client, jpeg: bytes, field: str
) -> None:
    for text in FORMS[field]:
        files = {"files": ("a.jpg", jpeg)}
        assert_refused(owner.post("/v1/jobs", files=files, data={field: text}), 400, 422)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../../etc/passwd", "etc/passwd"),
        ("C:\\windows\\x.jpg", "x.jpg"),
        ("\u202egpj.exe", "gpj.exe"),
        ("//server/share/x.jpg", "server/share/x.jpg"),
        (".", "unnamed"),
        ("..", "unnamed"),
        ("a/./b/../../c.jpg", "a/b/c.jpg"),
        ("a\x85b\x7f.jpg", "ab.jpg"),
    ],
)
def test_names_of_files_lead_nowhere(
    owner: httpx.Client, jpeg: bytes, name: str, plain: str
) -> None:
    answer = owner.post("/v1/jobs", files={"files": (name, jpeg)})
    assert answer.status_code == 202, answer.text
    [item] = owner.get(f"/v1/jobs/{answer.json()['id']}/items").json()["items"]
    assert item["name"] == plain


@pytest.mark.parametrize("name", ["x" * 100_000, "a\tb\r\nX: y"])
def test_names_of_files_are_no_way_into_headers(
    owner: httpx.Client, jpeg: bytes, name: str
) -> None:
    answer = owner.post("/v1/jobs", files={"files": (name, jpeg)})
    assert answer.status_code in (202, 400), answer.text


def test_parts_and_sizes_of_a_form_are_bounded(owner: httpx.Client) -> None:
    many = [("files", (f"{n}.jpg", b"x")) for n in range(11)]
    assert_refused(owner.post("/v1/jobs", files=many), 400, 413)
    fields = {f"field{n}": "x" for n in range(50)}
    assert_refused(owner.post("/v1/jobs", files=many[:1], data=fields), 400, 413)
    large = [("files", ("a.jpg", bytes(5 * 1024**2)))]
    assert_refused(owner.post("/v1/jobs", files=large), 413)
    text = {"metadata": json.dumps({"a": "x" * 3_000_000})}
    assert_refused(owner.post("/v1/jobs", files=many[:1], data=text), 400, 413, 422)
    headers = {"Content-Type": "multipart/form-data; boundary=" + "b" * 100_000}
    assert owner.post("/v1/jobs", content=b"--b", headers=headers).status_code in (400, 431)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/jobs", {"limit": "1" + "0" * 30}),
        ("/v1/jobs", {"limit": "-1"}),
        ("/v1/jobs", {"cursor": "\0"}),
        ("/v1/jobs", {"cursor": "x" * 20_000}),
        ("/v1/jobs/%00", {}),
        ("/v1/jobs/..%2f..%2fetc%2fpasswd", {}),
        (f"/v1/items/{NOWHERE}/outputs/{10**40}", {}),
        (f"/v1/items/{NOWHERE}/outputs/-1", {}),
        ("/v1/usage", {"jobs": "1e9", "every_key": "\0"}),
        ("/v1/deliveries", {"status": "\0", "limit": "99999999999999999999"}),
        ("/static-offline-docs/../../../../etc/passwd", {}),
        ("/static-offline-docs/%2e%2e/%2e%2e/%2e%2e/etc/passwd", {}),
    ],
)
def test_a_hostile_address_is_the_callers_problem(
    owner: httpx.Client, path: str, params: dict[str, str]
) -> None:
    answer = owner.get(path, params=params)
    assert 400 <= answer.status_code < 500, answer.text
    assert "root:" not in answer.text


# --- connections ----------------------------------------------------------------------------------


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
    assert api.process.alive()
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
    began = time.monotonic()
    answer = raw(api, request.encode())
    assert b" 408 " in answer.splitlines()[0]
    assert b"request-timeout" in answer
    assert time.monotonic() - began < PATIENCE_S + 8


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
        began = time.monotonic()
        assert owner.get("/v1/jobs").status_code == 200
        assert time.monotonic() - began < 5
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


def test_after_all_that_it_still_serves(api: Api, owner: httpx.Client) -> None:
    assert api.process.alive()
    assert owner.get("/v1/jobs").status_code == 200
    log = api.process.log.read_text(errors="replace")
    assert api.key not in log
    assert "Traceback" not in log, log[log.index("Traceback") :][:3_000]
