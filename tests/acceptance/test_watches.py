"""A watched prefix of the whole installed system: new photos become results by themselves."""

import json
import uuid

import httpx
import pytest

from api.client import ApiError, Item, MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.command import matting
from tests.acceptance.conftest import http_with
from tests.waiting import eventually


def test_photos_that_come_to_a_prefix_are_cut_out_once(
    stack: Stack, client: MattingClient, bucket: Storage, jpeg: bytes
) -> None:
    prefix = f"s3://photos/inbox-{uuid.uuid4().hex}/"
    folder = prefix.removeprefix("s3://photos/")
    bucket.put(f"{folder}a.jpg", jpeg, "image/jpeg")
    bucket.put(f"{folder}list.csv", b"key", "text/csv")
    data = ("--data", str(stack.data))
    made = matting("watches", "create", prefix, "--every", "1", "--option", "format=webp", *data)
    assert made.returncode == 0, made.stderr
    watch = made.stdout.strip()

    def done(count: int) -> list[Item]:
        jobs = client.jobs(metadata={"watch": watch})
        items = [item for job in jobs for item in client.items(job["id"], status="succeeded")]
        return items if len(items) >= count else []

    [first] = eventually(lambda: done(1), "the photo that was there")
    assert (first["name"], first["result_format"]) == ("a.jpg", "webp")
    for name in ("b.jpg", "sub/c.jpg"):
        bucket.put(folder + name, jpeg, "image/jpeg")
    bucket.put(f"{folder}a.jpg", jpeg + b"\0", "image/jpeg")
    eventually(lambda: done(4), "the new and the changed photos")

    assert client.watches.pause(watch)["status"] == "paused"
    bucket.put(f"{folder}d.jpg", jpeg, "image/jpeg")
    shown = json.loads(matting("watches", "show", watch, "--json", *data).stdout)
    assert (shown["counts"]["submitted"], shown["counts"]["left_out"]) == (4, 1)
    client.watches.resume(watch)
    found = eventually(lambda: done(5), "what came during the pause")
    names = sorted(item["name"] for item in found)
    assert names == ["a.jpg", "a.jpg", "b.jpg", "d.jpg", "sub/c.jpg"]
    assert "5 photos submitted, 1 file left out" in matting("watches", "show", watch, *data).stderr
    assert matting("watches", "delete", watch, *data).returncode == 0
    with pytest.raises(ApiError, match="watch-not-found"):
        client.watches.get(watch)
    assert len(done(5)) == 5


def test_a_watch_is_refused_where_a_job_would_be_and_is_its_key_s_own(
    stack: Stack, client: MattingClient, http: httpx.Client
) -> None:
    def refused(**body: object) -> tuple[int, str]:
        answer = http.post("/v1/watches", json=body)
        return answer.status_code, answer.json()["code"]

    assert refused(prefix="s3://matting/jobs/") == (403, "forbidden-source")
    assert refused(prefix="s3://elsewhere/x/") == (403, "forbidden-source")
    assert refused(prefix="s3://photos/x/", options={"bg": "red"}) == (422, "invalid-options")
    assert refused(prefix="s3://photos/x/", options={"model": "x"}) == (422, "unknown-model")
    named = {"name": "{sku}.{ext}"}
    assert refused(prefix="s3://photos/x/", options=named) == (422, "unknown-placeholder")
    loop = {"prefix": "s3://matting/cutouts/in/", "destination": "s3://matting/cutouts/{path}"}
    assert refused(**loop) == (422, "invalid-options")
    outside = {"prefix": "s3://photos/x/", "destination": "s3://elsewhere/{path}.{ext}"}
    assert refused(**outside) == (403, "forbidden-destination")
    watch = client.watches.create("photos/nothing-here/", every_s=3_600)
    assert watch["prefix"] == "s3://photos/nothing-here/"
    body = {"EventName": "s3:ObjectCreated:Put", "Records": [{"s3": {}}]}
    assert http.post(f"/v1/watches/{watch['id']}/look", json=body).status_code == 202
    data = ("--data", str(stack.data))
    other, read = (
        matting("keys", "create", f"w-{scope}", "--scope", scope, *data).stdout.strip()
        for scope in ("admin", "read")
    )
    with http_with(stack, other.split()[-1]) as foreign:
        assert foreign.get("/v1/watches").json() == {"watches": []}
        for method, path in (
            ("GET", ""),
            ("POST", "/pause"),
            ("POST", "/resume"),
            ("POST", "/look"),
            ("DELETE", ""),
        ):
            answer = foreign.request(method, f"/v1/watches/{watch['id']}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "watch-not-found")
    with http_with(stack, read.split()[-1]) as reader:
        assert reader.get("/v1/watches").status_code == 200
        answer = reader.post("/v1/watches", json={"prefix": "s3://photos/x/"})
        assert answer.status_code == 403
    client.watches.delete(watch["id"])
