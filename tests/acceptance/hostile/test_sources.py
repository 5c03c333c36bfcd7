"""Hostile sources: keys, prefixes, manifests and zip files, one row per attack."""

import io
import json
import zipfile

import httpx
import pytest

from shared.settings import Settings
from shared.storage import Storage
from tests.acceptance.hostile.api import assert_refused, wait_for_items
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)

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
def test_no_source_reaches_beyond_the_allowed_places(owner: httpx.Client, place: str) -> None:
    for source in ({"keys": [place]}, {"prefix": place}, {"manifest": place}, {"zip": place}):
        answer = owner.post("/v1/jobs", json={"source": source})
        assert_refused(answer, 403, 422)
    picture = {"source": {"keys": ["s3://photos/a.jpg"]}, "options": {"background": place}}
    assert_refused(owner.post("/v1/jobs", json=picture), 403, 422)


@pytest.mark.parametrize("prefix", ["s3://matting/", "s3://matting/j", "jobs", "s3://matting/up"])
def test_no_prefix_reaches_other_files(owner: httpx.Client, prefix: str) -> None:
    assert_refused(owner.post("/v1/jobs", json={"source": {"prefix": prefix}}), 403)


HOSTILE_ROWS = [
    '{"key": "s3://photos/\\u0000.jpg"}',
    '{"key": "s3://photos/\\ud800.jpg"}',
    '{"url": "http://photos.example/\\ud800.jpg"}',
    '{"key": "s3://photos/c.jpg", "note": "\\u0000"}',
    '{"key": "s3://photos/c.jpg", "note": "\\udfff"}',
    '{"key": "s3://photos/c.jpg", "note": NaN}',
    '{"key": "s3://photos/c.jpg", "note": 1e400}',
    '{"key": "s3://photos/c.jpg", "note": ' + "[" * 300 + "]" * 300 + "}",
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


def test_rows_of_a_manifest_are_checked_like_other_sources(owner: httpx.Client) -> None:
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
    # Later jobs are listed as usual.
    after = owner.post("/v1/jobs", files={"manifest": ("rows.csv", b"key\ns3://photos/a.jpg\n")})
    wait_for_items(owner, after.json()["id"], 1)


def test_keys_of_a_prefix_become_names_inside_the_folder(
    owner: httpx.Client, settings: Settings
) -> None:
    bucket = Storage(settings.model_copy(update={"s3_bucket": "photos"}))
    for key in ("slip/sub/b.jpg", "slip/..\\..\\c.jpg", "slip/ d .jpg", "slip/sub/b.jpg\n"):
        bucket.put(key, b"x", "image/jpeg")
    bucket.close()
    job = owner.post("/v1/jobs", json={"source": {"prefix": "s3://photos/slip/"}}).json()
    wait_for_items(owner, job["id"], 4)
    items = owner.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert {item["name"] for item in items} == {"sub/b.jpg", "c.jpg", "d .jpg"}
    good = [item["source"] for item in items if item["error"] is None]
    assert good == ["s3://photos/slip/ d .jpg", "s3://photos/slip/sub/b.jpg"]
    assert {item["source"] for item in items if item["error"]} == {
        "s3://photos/slip/..%5C..%5Cc.jpg",
        "s3://photos/slip/sub/b.jpg%0A",
    }


def hostile_zip(jpeg: bytes) -> bytes:
    """A zip with names that point outside, a link, and files that are larger than their headers
    say.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("../../slip.jpg", "/etc/root.jpg", "C:\\x\\drive.jpg", "a/../../up.jpg"):
            archive.writestr(zipfile.ZipInfo(name), jpeg)
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16  # a symbolic link, as Unix stores them in zips
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.jpg", bytes(60 * 1024**2))
        archive.writestr("inner.zip", bytes(1_000))
        archive.writestr("run.sh", "rm -rf /")
    return buffer.getvalue()


def test_hostile_files_of_a_zip_fail_alone(
    owner: httpx.Client, storage: Storage, jpeg: bytes
) -> None:
    before = set(storage.list_keys(""))
    job = owner.post("/v1/jobs", files={"zip": ("photos.zip", hostile_zip(jpeg))}).json()
    wait_for_items(owner, job["id"], 8)
    items = owner.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert {item["name"]: item["error"] and item["error"]["code"] for item in items} == {
        "slip.jpg": None,
        "etc/root.jpg": None,
        "x/drive.jpg": None,
        "a/up.jpg": None,
        "link.jpg": None,  # a file of eleven letters that is no photo
        "bomb.jpg": "file-too-large",
        "inner.zip": "not-an-image",
        "run.sh": "not-an-image",
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
def test_a_file_that_is_no_zip_ends_its_job_with_a_reason(owner: httpx.Client, data: bytes) -> None:
    answer = owner.post("/v1/jobs", files={"zip": ("photos.zip", data)})
    assert answer.status_code in (202, 400, 422), answer.text
    if answer.status_code == 202:
        path = f"/v1/jobs/{answer.json()['id']}"
        eventually(lambda: owner.get(path).json()["status"] == "finished", "the zip to be read")
        assert owner.get(path).json()["error"]["code"] in ("bad-archive", "source-empty")


CSV_ROWS = b"""key,id,note,options
s3://photos/1.jpg,\x00,a,
s3://photos/2.jpg,2,\x00,
s3://photos/3.jpg,3,c,%s
s3://photos/4.jpg,4,d,%s
s3://photos/\x00.jpg,5,e,
s3://photos/fine.jpg,6,f,
""" % (b"[" * 60_000, b"9" * 10_000)


def test_hostile_rows_of_a_spreadsheet_fail_alone(owner: httpx.Client) -> None:
    job = owner.post("/v1/jobs", files={"manifest": ("rows.csv", CSV_ROWS)}).json()
    wait_for_items(owner, job["id"], 6)
    items = owner.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert [item["name"] for item in items if item["error"] is None] == ["1.jpg", "fine.jpg"]
