"""Results under keys of the caller's own, through the API and the command line, on real S3."""

import csv
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.command import matting
from tests.acceptance.conftest import http_with
from tests.acceptance.test_api import assert_problem
from tests.waiting import eventually


@pytest.fixture
def own(stack: Stack) -> Any:
    """The stack's own bucket, in which a destination may be a folder."""
    storage = Storage(stack.settings)
    yield storage
    storage.close()


def read(storage: Storage, key: str) -> bytes:
    return storage.get(storage.bucket, key, 10**8)


def test_a_manifest_s_results_lie_under_keys_of_its_columns(
    client: MattingClient, http: httpx.Client, bucket: Storage, own: Storage, jpeg: bytes,
    tmp_path: Path, stack: Stack,
) -> None:  # fmt: skip
    bucket.put("shoe.jpg", jpeg, "image/jpeg")
    rows = [{"key": "s3://photos/shoe.jpg", "id": f"A-{n}", "sku": sku} for n, sku in enumerate(
        ["RED/40", "BLUE 41", ""])]  # fmt: skip
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    extra = {"name": "{id}-white.{ext}", "format": "jpeg", "background": "#ffffff"}
    data = ("--data", str(stack.data))
    sent = matting(
        "submit",
        str(manifest),
        "--destination",
        "s3://matting/cut/{sku}.{ext}",
        "--option",
        f"extra_outputs={json.dumps([extra])}",
        "--wait",
        *data,
    )
    assert sent.returncode == 1, sent.stderr
    job = client.job(sent.stdout.strip().splitlines()[-1])
    assert job["destination"] == "s3://matting/cut/{sku}.{ext}"
    assert (job["counts"]["succeeded"], job["counts"]["failed"]) == (2, 1)
    keys = {"cut/RED/40.png", "cut/A-0-white.jpg", "cut/BLUE 41.png", "cut/A-1-white.jpg"}
    assert set(own.list_keys("cut/")) == keys
    first, _, third = client.items(job["id"])
    assert third["error"] is not None
    assert third["error"]["code"] == "bad-result-name"
    places = [one["destination"] for one in first["outputs"]]
    assert places == ["s3://matting/cut/RED/40.png", "s3://matting/cut/A-0-white.jpg"]
    result = http.get(f"/v1/items/{first['id']}/result", follow_redirects=True)
    assert result.content == read(own, "cut/RED/40.png")
    client.report(job["id"], tmp_path / "report.csv")
    report = list(csv.DictReader((tmp_path / "report.csv").read_text("utf-8-sig").splitlines()))
    assert [row["destination"] for row in report] == [
        "s3://matting/cut/RED/40.png",
        "s3://matting/cut/BLUE 41.png",
        "",
    ]

    before = read(own, "cut/RED/40.png")
    redone = http.post(f"/v1/items/{first['id']}/redo", json={"options": {"background": "#00ff00"}})
    assert redone.status_code == 202, redone.text
    eventually(
        lambda: http.get(f"/v1/items/{first['id']}").json()["version"] == 2, "the redo to end"
    )
    assert read(own, "cut/RED/40.png") != before
    http.post(f"/v1/items/{first['id']}/versions/1/restore").raise_for_status()
    assert read(own, "cut/RED/40.png") == before
    client.delete(job["id"])
    assert set(own.list_keys("cut/")) == keys, "the files are the caller's"


def test_what_could_go_wrong_with_a_destination_is_refused_at_once(
    http: httpx.Client, bucket: Storage, stack: Stack, jpeg: bytes, tmp_path: Path
) -> None:
    bucket.put("shoe.jpg", jpeg, "image/jpeg")

    def submit(destination: str, *keys: Any, **fields: Any) -> httpx.Response:
        source = {"keys": [f"s3://photos/{key}" if isinstance(key, str) else key for key in keys]}
        return http.post("/v1/jobs", json={"source": source, "destination": destination, **fields})

    twice = submit("s3://matting/out/{name}.{ext}", "a/shoe.jpg", "b/Shoe.png")
    assert_problem(twice, 422, "destination-collision")
    assert "photo 1 (a/shoe.jpg)" in twice.json()["detail"]
    assert_problem(submit("s3://photos/out/{name}", "shoe.jpg"), 403, "forbidden-destination")
    assert_problem(submit("s3://matting/{name}", "shoe.jpg"), 403, "forbidden-destination")
    unknown = submit("s3://matting/out/{nmae}", "shoe.jpg")
    assert_problem(unknown, 422, "unknown-placeholder")
    assert "`{nmae}`. Did you mean `{name}`?" in unknown.json()["detail"]
    assert_problem(submit("s3://matting/../{name}", "shoe.jpg"), 422, "invalid-options")
    assert_problem(submit("s3://matting/out/{id}", "shoe.jpg"), 422, "bad-result-name")
    named = submit("s3://matting/out/x", "shoe.jpg", options={"name": "{sku}.{ext}"})
    assert_problem(named, 422, "unknown-placeholder")

    for name in ("a/shoe.jpg", "b/shoe.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(jpeg)
    wrong = "s3://matting/out/{name}.{ext}"
    refused = matting("submit", str(tmp_path), "--destination", wrong, "--data", str(stack.data))
    assert refused.returncode == 2
    assert "would both be written" in " ".join(refused.stderr.split())

    made = matting("keys", "create", "shop", "--source", "s3://photos/", "--data", str(stack.data))
    with http_with(stack, made.stdout.strip()) as limited:
        body = {"source": {"keys": ["s3://photos/shoe.jpg"]}, "destination": "s3://matting/out/x"}
        assert_problem(limited.post("/v1/jobs", json=body), 403, "forbidden-destination")
