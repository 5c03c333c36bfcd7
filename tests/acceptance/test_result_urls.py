"""Results are found in lists and reports with their URLs, by the caller's own id, and by HEAD."""

import csv
import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from api.client import ApiError, Job, MattingClient
from shared.storage import Storage

SKUS = ("SKU-1", "SKU-2", "SKU-1")


@pytest.fixture
def job(client: MattingClient, bucket: Storage, jpeg: bytes) -> Job:
    """A job of three photos, two of which have one id, with two files of each."""
    keys = [f"found/{number}.jpg" for number in range(len(SKUS))]
    for key in keys:
        bucket.put(key, jpeg, "image/jpeg")
    source = {
        "keys": [
            {"key": f"s3://photos/{key}", "id": sku} for key, sku in zip(keys, SKUS, strict=True)
        ]
    }
    white = {"name": "{path}-white.{ext}", "format": "jpeg", "background": "white"}
    options = {"extra_outputs": [white]}
    metadata = {"season": "spring", "shop": "north"}
    return client.wait(client.submit(source, options=options, metadata=metadata)["id"])


def test_lists_and_reports_carry_urls_that_need_no_key(
    client: MattingClient, http: httpx.Client, job: Job
) -> None:
    for item in client.items(job["id"], include="urls"):
        assert item["result_url"]
        assert httpx.get(item["result_url"]).content.startswith(b"\x89PNG")
        white = item["outputs"][1]
        assert white["file_url"]
        assert len(httpx.get(white["file_url"]).content) == white["bytes"]
        assert item["urls_expire_at"]
        assert datetime.fromisoformat(item["urls_expire_at"]) > datetime.now(UTC)
    assert all(item["result_url"] is None for item in client.items(job["id"]))

    lines = http.get(f"/v1/jobs/{job['id']}/report.jsonl", params={"include": "urls"}).text
    for row in map(json.loads, lines.splitlines()):
        stem = row["name"].removesuffix(".jpg")
        names = [output["name"] for output in row["outputs"]]
        assert names == [f"{stem}.png", f"{stem}-white.jpg"]
        assert httpx.get(row["output_urls"][1]).status_code == 200
    text = http.get(f"/v1/jobs/{job['id']}/report.csv", params={"include": "urls"}).text
    for cells in csv.DictReader(io.StringIO(text)):
        assert cells["outputs"].count("s3://matting/") == 2
        assert httpx.get(cells["result_url"]).status_code == 200
    plain = http.get(f"/v1/jobs/{job['id']}/report.csv").text
    assert "result_url" not in plain.splitlines()[0]


def test_a_jobs_report_and_zip_file_have_addresses_that_need_no_key_and_read_nothing_else(
    http: httpx.Client, job: Job
) -> None:
    path = f"/v1/jobs/{job['id']}"
    found = http.get(path, params={"include": "urls"}).json()
    assert datetime.fromisoformat(found["urls_expire_at"]) > datetime.now(UTC)
    assert http.get(path).json()["urls"] is None
    urls = found["urls"]
    assert all(url.startswith(str(http.base_url)) for url in urls.values())
    tls = {"X-Forwarded-Proto": "https"}
    told = http.get(path, params={"include": "urls"}, headers=tls).json()["urls"]["archive"]
    assert told.startswith(f"https://{http.base_url.netloc.decode()}/v1/jobs/")
    with httpx.Client() as anyone:
        size = anyone.head(urls["archive"]).headers["Content-Length"]
        assert int(size) == len(anyone.get(urls["archive"]).content)
        assert anyone.head(urls["report_csv"]).status_code == 200
        anyone.base_url = http.base_url
        assert anyone.get(urls["report_csv"]).text.count("\n") == 1 + len(SKUS)
        rows = anyone.get(f"{urls['report_jsonl']}&include=urls").text.splitlines()
        assert json.loads(rows[0])["result_url"]
        packed = zipfile.ZipFile(io.BytesIO(anyone.get(urls["archive"]).content))
        assert len(packed.namelist()) == 2 * len(SKUS)

        token = urls["archive"].partition("?")[2]
        for other in (f"{path}/items", path, f"{path}/report.csv", "/v1/jobs", f"{path}/events"):
            assert anyone.get(f"{other}?{token}").status_code == 401, other
        assert anyone.post(f"{path}/cancel?{token}").status_code == 401
        begin, _, signature = urls["archive"].rpartition(".")
        forged = signature[1:] + signature[0]
        assert anyone.get(f"{begin}.{forged}").status_code == 401
        assert anyone.get(f"{path}/archive.zip").status_code == 401


def test_all_results_come_as_one_zip_file_with_the_names_of_the_download(
    client: MattingClient, http: httpx.Client, job: Job, tmp_path: Path
) -> None:
    folder, file = tmp_path / "out", tmp_path / "all.zip"
    client.download(job["id"], folder)
    client.archive(job["id"], file)
    with zipfile.ZipFile(file) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert sorted(names) == sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
        assert all(packed.read(name) == (folder / name).read_bytes() for name in names)

    [first, *_] = client.items(job["id"])
    http.post(f"/v1/items/{first['id']}/review", json={"verdict": "reject"})
    client.archive(job["id"], file)
    with zipfile.ZipFile(file) as packed:
        assert len(packed.namelist()) == len(names) - 2
    with pytest.raises(ApiError, match="result-not-ready"):
        client.archive(job["id"], tmp_path / "none.zip", review="accepted")
    assert not (tmp_path / "none.zip").exists()


def test_a_zip_file_is_resumed_by_ranges(
    client: MattingClient, http: httpx.Client, job: Job, tmp_path: Path
) -> None:
    path = f"/v1/jobs/{job['id']}/archive.zip"
    whole = http.get(path)
    size, etag = len(whole.content), whole.headers["etag"]
    assert (whole.headers["content-length"], whole.headers["accept-ranges"]) == (str(size), "bytes")

    def part(wanted: str, if_range: str = etag) -> tuple[int, bytes, str | None]:
        answer = http.get(path, headers={"Range": wanted, "If-Range": if_range})
        return answer.status_code, answer.content, answer.headers.get("content-range")

    for start, stop in ((0, 1), (100, size), (size // 2, size // 2 + 5_000), (size - 1, size)):
        expected = (206, whole.content[start:stop], f"bytes {start}-{stop - 1}/{size}")
        assert part(f"bytes={start}-{stop - 1}") == expected
    assert part("bytes=-9") == (206, whole.content[-9:], f"bytes {size - 9}-{size - 1}/{size}")
    for odd in ("bytes=0-1,5-6", "bytes=9-1", "lines=1-2", "bytes=-"):
        assert part(odd)[:2] == (200, whole.content), odd
    assert part("bytes=5-", '"another"')[:2] == (200, whole.content)
    assert part(f"bytes={size}-")[0] == 416

    partial = tmp_path / f".all.zip.{etag.strip(chr(34))}.part"
    partial.write_bytes(whole.content[:1_000])
    counted: list[int] = []
    client.archive(job["id"], tmp_path / "all.zip", on_bytes=counted.append)
    assert (tmp_path / "all.zip").read_bytes() == whole.content
    assert (counted[0], sum(counted)) == (1_000, size)
    for content in (whole.content, b"x" * (size + 5)):  # nothing is left to fetch
        partial.write_bytes(content)
        client.archive(job["id"], tmp_path / "all.zip")
        assert (tmp_path / "all.zip").read_bytes() == whole.content
    assert [one.name for one in tmp_path.iterdir()] == ["all.zip"]


def test_images_are_found_by_the_callers_own_id(client: MattingClient, job: Job) -> None:
    found = [item["name"] for item in client.items(job["id"], custom_id="SKU-1")]
    assert found == ["found/0.jpg", "found/2.jpg"]
    assert list(client.items(job["id"], custom_id="SKU-9")) == []
    [newest, *_] = client.find_items("SKU-2")
    assert (newest["job_id"], newest["name"]) == (job["id"], "found/1.jpg")
    assert list(client.find_items("SKU-9")) == []


def test_jobs_are_found_by_their_metadata(
    client: MattingClient, http: httpx.Client, job: Job
) -> None:
    def found(**metadata: str) -> list[str]:
        return [one["id"] for one in client.jobs(metadata=metadata)]

    assert found(season="spring", shop="north")[0] == job["id"]
    assert job["id"] in found(season="spring")
    assert found(season="spring", shop="south") == []
    assert found(season="s") == []
    answer = http.get("/v1/jobs", params={"metadata": "spring"})
    assert answer.status_code == 422
    assert "NAME=VALUE" in answer.json()["detail"]


def test_head_tells_size_and_type_of_a_result(
    client: MattingClient, http: httpx.Client, job: Job
) -> None:
    [item, *_] = client.items(job["id"])
    for path in ("result", "outputs/1", "source"):
        address = f"/v1/items/{item['id']}/{path}"
        head = http.head(address, follow_redirects=True)
        body = http.get(address, follow_redirects=True)
        assert head.status_code == body.status_code == 200
        assert head.headers["content-length"] == body.headers["content-length"]
        assert head.content == b""


def test_a_query_parameter_that_does_not_exist_is_refused_by_name(
    http: httpx.Client, job: Job
) -> None:
    answer = http.get(f"/v1/jobs/{job['id']}/items", params={"staus": "failed"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "Unknown query parameter `staus`. Did you mean `status`?"
    answer = http.post("/v1/jobs", json={"source": {"keys": ["a"]}, "options": {"bg": "white"}})
    assert answer.json()["detail"] == "Unknown option `bg`. Did you mean `background`?"
    answer = http.post("/v1/jobs", files={"file": b"x"})
    assert answer.json()["detail"] == "Unknown part `file`. Did you mean `files`?"


def test_an_address_that_does_not_exist_is_named_with_its_neighbour(http: httpx.Client) -> None:
    answer = http.get("/v1/job")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.json()["detail"] == "There is no address /v1/job. Did you mean /v1/jobs?"
    assert "Did you mean" not in http.get(f"/{'x' * 3_000}").json()["detail"]
