"""All sources through the API: manifests, zip files, URLs, long lists."""

import csv
import io
import json
import zipfile
from pathlib import Path

import httpx
import pytest

from api.client import ApiError, Item, MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.photo_bombs import bombs
from tests.waiting import eventually


def by_name(client: MattingClient, job_id: str) -> dict[str, Item]:
    return {item["name"]: item for item in client.items(job_id)}


@pytest.fixture
def photos(bucket: Storage, jpeg: bytes) -> list[str]:
    keys = ["skuA/main.jpg", "skuB/main.jpg", "x.jpg"]
    for key in keys:
        bucket.put(key, jpeg, "image/jpeg")
    return [f"s3://photos/{key}" for key in keys]


def test_a_csv_manifest_carries_ids_options_and_the_caller_s_columns(
    client: MattingClient, bucket: Storage, photos: list[str], tmp_path: Path
) -> None:
    rows = [
        ["key", "id", "options.format", "sku", "=price"],
        [photos[0], "A-1", "", "RED", "=1+1"],
        [photos[1], "A-2", "webp", "BLUE", ""],
        [photos[0], "A-1 again", "", "RED", ""],
        [photos[0], "A-1 again", "", "RED", ""],
        ["", "A-3", "", "GREEN", ""],
        ["s3://secret/a.jpg", "A-4", "", "", ""],
        [photos[1], "A-5", "jpeg", "BLUE", ""],
    ]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    bucket.put("manifest.csv", text.getvalue().encode(), "text/csv")
    job = client.wait(client.submit({"manifest": "s3://photos/manifest.csv"})["id"])
    assert job["counts"]["total"] == 6, "the same row twice is one image"
    assert (job["counts"]["succeeded"], job["counts"]["failed"]) == (3, 3)
    items = {item["custom_id"]: item for item in client.items(job["id"])}
    assert items["A-1"]["labels"] == {"sku": "RED", "=price": "=1+1"}
    assert [items[one]["result_format"] for one in ("A-1", "A-2")] == ["png", "webp"]
    errors = [items[one]["error"] for one in ("A-3", "A-4", "A-5")]
    codes = ["bad-manifest-row", "forbidden-source", "invalid-options"]
    assert [one and one["code"] for one in errors] == codes
    assert errors[2] is not None
    assert errors[2]["detail"].startswith("JPEG has no transparency")
    assert client.retry(job["id"])["counts"] == job["counts"], "a row stays what it is"

    client.report(job["id"], tmp_path / "report.csv")
    found = list(csv.DictReader((tmp_path / "report.csv").read_text("utf-8-sig").splitlines()))
    ids = ["A-1", "A-2", "A-1 again", "A-3", "A-4", "A-5"]
    assert [row["custom_id"] for row in found] == ids
    assert (found[0]["sku"], found[0]["'=price"]) == ("RED", "'=1+1"), "no spreadsheet runs it"
    assert found[1]["output_key"].endswith(".webp")
    assert [row["sku"] for row in found] == ["RED", "BLUE", "RED", "GREEN", "", "BLUE"]
    client.report(job["id"], tmp_path / "report.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["succeeded"] * 3 + ["failed"] * 3
    assert lines[0]["labels"] == {"sku": "RED", "=price": "=1+1"}
    assert lines[0]["total_ms"] > 0


def test_a_local_manifest_and_a_local_zip_are_uploaded(
    client: MattingClient, stack: Stack, photos: list[str], jpeg: bytes, tmp_path: Path
) -> None:
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text("".join(json.dumps({"key": key}) + "\n" for key in photos))
    job = client.wait(client.submit_attached("manifest", manifest)["id"])
    assert set(by_name(client, job["id"])) == {"skuA/main.jpg", "skuB/main.jpg", "x.jpg"}
    assert job["counts"]["succeeded"] == 3

    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("skuA/main.jpg", "skuB/main.jpg", "x.jpg", "../x.png"):
            archive.writestr(name, jpeg)
        archive.writestr("bomb.png", b"\0" * 60_000_000, zipfile.ZIP_DEFLATED)
        archive.writestr("readme.txt", "hello")
    job = client.wait(client.submit_attached("zip", tmp_path / "photos.zip")["id"])
    found = by_name(client, job["id"])
    assert {name: item["status"] for name, item in found.items()} == {
        "skuA/main.jpg": "succeeded",
        "skuB/main.jpg": "succeeded",
        "x.jpg": "succeeded",
        "x.png": "succeeded",
        "bomb.png": "failed",
        "readme.txt": "failed",  # left out, and said so
    }
    names = {path.name for _, path in client.download(job["id"], tmp_path / "out")}
    assert names == {"main.png", "x.jpg.png", "x.png.png"}

    own = Storage(stack.settings)

    def left() -> set[str]:
        return set(own.list_keys(f"jobs/{job['id']}/"))

    eventually(lambda: f"jobs/{job['id']}/zip" not in left(), "the zip file to be removed")
    assert len([key for key in left() if "/inputs/" in key]) == 4
    own.close()


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        ("manifest", b"name\na.jpg\n", "bad-manifest"),
        ("manifest", b"", "bad-manifest"),
        ("zip", b"PK nonsense", "bad-archive"),
        ("zip", b"PK\5\6" + bytes(18), "source-empty"),
    ],
)
def test_a_source_that_can_t_be_read_ends_the_job_with_a_reason(
    client: MattingClient, tmp_path: Path, kind: str, content: bytes, code: str
) -> None:
    path = tmp_path / "source"
    path.write_bytes(content)
    job = client.wait(client.submit_attached(kind, path)["id"])  # type: ignore[arg-type]
    assert (job["status"], job["counts"]["total"]) == ("finished", 0)
    assert job["error"]
    assert job["error"]["code"] == code


def test_internal_addresses_are_not_fetched(client: MattingClient, stack: Stack) -> None:
    inside = stack.settings.s3_endpoint_url
    job = client.submit({"urls": [f"{inside}/photos/x.jpg", "http://169.254.169.254/latest"]})
    job = client.wait(job["id"])
    assert job["counts"]["failed"] == 2
    codes = {item["error"]["code"] for item in client.items(job["id"]) if item["error"]}
    assert codes == {"forbidden-url"}


def test_a_long_list_is_accepted_at_once_and_expanded_in_the_background(
    client: MattingClient, photos: list[str]
) -> None:
    keys = [*photos, *(f"s3://photos/missing/{number}.jpg" for number in range(1_500)), *photos]
    submitted = client.submit({"keys": keys})
    assert submitted["listing"]
    client.cancel(submitted["id"])
    small = client.wait(client.submit({"keys": [{"key": photos[2], "id": "mine"}]})["id"])
    assert [item["custom_id"] for item in client.items(small["id"])] == ["mine"]
    with pytest.raises(ApiError) as caught:
        client.submit({"keys": [*keys, "jobs/1/results/x.png"]})
    assert caught.value.code == "forbidden-source"


def test_the_same_submission_again_is_the_same_job(
    client: MattingClient, http: httpx.Client, photos: list[str], jpeg: bytes
) -> None:
    first = client.submit({"keys": photos}, idempotency_key="tonight")
    again = client.submit({"keys": photos}, idempotency_key="tonight")
    assert again["id"] == first["id"]
    with pytest.raises(ApiError) as caught:
        client.submit({"keys": photos[:1]}, idempotency_key="tonight")
    assert (caught.value.status, caught.value.code) == (422, "idempotency-key-reused")

    for expected in (None, "true"):
        answer = http.post(
            "/v1/jobs",
            files=[("files", ("a.jpg", jpeg, "image/jpeg"))],
            data={"priority": "3"},
            headers={"Idempotency-Key": "multipart"},
        )
        assert answer.status_code == 202
        assert answer.headers.get("Idempotent-Replayed") == expected
    other = http.post(
        "/v1/jobs",
        files=[("files", ("a.jpg", jpeg[:-1], "image/jpeg"))],
        data={"priority": "3"},
        headers={"Idempotency-Key": "multipart"},
    )
    assert other.status_code == 422


def test_a_dry_run_counts_files_that_cannot_be_processed(
    client: MattingClient, bucket: Storage, jpeg: bytes
) -> None:
    files = {"fine.jpg": jpeg, "page.jpg": b"<html>", "large.png": bombs()["large.png"][0]}
    for name, data in files.items():
        bucket.put(f"odd/{name}", data, "image/jpeg")
    found = client.estimate({"prefix": "s3://photos/odd/"})
    assert (found["images"], found["sampled"]) == (3, 2)
    assert found["megapixels"] == pytest.approx(3 * (1_600 + 0.12) / 2, abs=0.1)


def test_a_dry_run_reports_the_cost_and_submits_nothing(
    client: MattingClient, bucket: Storage, jpeg: bytes
) -> None:
    for number in range(5):
        bucket.put(f"dry/{number}.jpg", jpeg, "image/jpeg")
    before = len(list(client.jobs()))
    found = client.estimate({"prefix": "s3://photos/dry/"})
    assert (found["images"], found["at_least"], found["sampled"]) == (5, False, 5)
    assert found["megapixels"] == pytest.approx(5 * 0.12, abs=0.06)
    listed = client.estimate({"keys": ["s3://photos/dry/0.jpg"] * 3})
    assert listed["images"] == 1
    assert len(list(client.jobs())) == before
