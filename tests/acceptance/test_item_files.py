"""An image's matte, photo and thumbnails, and its result made again, through the running system."""

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import cv2
import httpx
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared import job_store
from shared.database import Database
from shared.jobs import Scope
from shared.storage import Storage
from tests.acceptance.command import matting
from tests.acceptance.conftest import http_with
from tests.acceptance.test_api import assert_problem
from tests.waiting import eventually

FRAMED = {
    "format": "webp",
    "crop": True,
    "canvas": "500x500",
    "background": "#ffffff",
    "extra_outputs": [{"name": "{path}-shadow.{ext}", "format": "png", "shadow": {}}],
}


@pytest.fixture
def photos(tmp_path: Path, jpeg: bytes) -> Path:
    """A photo that a phone stored lying on its side."""
    buffer = io.BytesIO()
    with PIL.Image.open(io.BytesIO(jpeg)) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(buffer, "JPEG", exif=exif, quality=95)
    (tmp_path / "turned.jpg").write_bytes(buffer.getvalue())
    return tmp_path


@pytest.fixture
def reader(stack: Stack) -> Iterator[httpx.Client]:
    """HTTP with a key of somebody else that may only read."""
    database = Database(stack.settings.database_url, process="tests")
    with database.transaction() as session:
        _, secret = job_store.create_api_key(session, "reader", scopes=[Scope.READ])
    database.close()
    with http_with(stack, secret) as client:
        yield client


def item_of(client: MattingClient, photos: Path, options: dict[str, Any]) -> dict[str, Any]:
    job = client.wait(client.submit_files([photos / "turned.jpg"], options=options)["id"])
    [item] = client.items(job["id"])
    assert item["status"] == "succeeded"
    return cast(dict[str, Any], item)


def grey(data: bytes) -> NDArray[np.uint8]:
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.mode == "L"
        return np.asarray(image)


def png(matte: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", matte)[1])


def settled(http: httpx.Client, item: dict[str, Any]) -> dict[str, Any]:
    """The item once nothing is being made."""

    def found() -> dict[str, Any] | None:
        now: dict[str, Any] = http.get(f"/v1/items/{item['id']}").json()
        return None if (now["redo"] or {}).get("status") == "waiting" else now

    return eventually(found, "the version that is being made")


def files_of(http: httpx.Client, item: dict[str, Any]) -> list[bytes]:
    return [
        http.get(one["url"], follow_redirects=True).raise_for_status().content
        for one in item["outputs"]
    ]


@pytest.mark.parametrize("options", [{"name": "{path}.{ext}"}, FRAMED])
def test_a_mended_matte_is_rendered_with_the_item_s_own_options(
    client: MattingClient, http: httpx.Client, photos: Path, options: dict[str, Any]
) -> None:
    item = item_of(client, photos, options)
    path = f"/v1/items/{item['id']}/matte"
    answer = http.get(path)
    matte = grey(answer.content)
    assert matte.shape == (item["height"], item["width"]) == (400, 300)
    before = files_of(http, item)

    # The same matte gives the same files.
    etag = answer.headers["etag"]
    sent = http.put(path, content=answer.content, headers={"If-Match": etag})
    assert sent.status_code == 202
    assert sent.json()["redo"]["made_by"] == "brush"
    again = settled(http, item)
    assert (again["version"], again["redo"]) == (2, None)
    assert files_of(http, again) == before

    assert_problem(http.put(path, content=answer.content), 428, "if-match-missing")
    stale = http.put(path, content=answer.content, headers={"If-Match": etag})
    assert_problem(stale, 412, "matte-changed")

    # Another matte gives others, and is what is read from now on.
    etag = http.get(path).headers["etag"]
    painted = matte.copy()
    painted[150:250, 100:200] = 0
    http.put(path, content=png(painted), headers={"If-Match": etag}).raise_for_status()
    mended = settled(http, item)
    assert (mended["version"], mended["redo"], mended["status"]) == (3, None, "succeeded")
    assert np.array_equal(grey(http.get(path).content), painted)
    after = files_of(http, mended)
    assert all(new != old for new, old in zip(after, before, strict=True))
    job = http.get(f"/v1/jobs/{item['job_id']}").json()
    assert (job["status"], job["counts"]["succeeded"]) == ("finished", 1)

    # And back.
    restored = http.post(f"/v1/items/{item['id']}/versions/1/restore").raise_for_status().json()
    assert restored["version"] == 1
    assert files_of(http, restored) == before
    versions = http.get(f"/v1/items/{item['id']}/versions").json()["versions"]
    assert [(one["made_by"], one["shown"]) for one in versions] == [
        ("network", True),
        ("brush", False),
        ("brush", False),
    ]


def test_what_is_no_matte_of_the_photo_changes_nothing(
    client: MattingClient, http: httpx.Client, photos: Path
) -> None:
    item = item_of(client, photos, {})
    path = f"/v1/items/{item['id']}/matte"
    any_version = {"If-Match": "*"}
    for matte in (b"", b"\x89PNG", png(np.zeros((300, 400), np.uint8)), b"<html>" * 9):
        assert_problem(http.put(path, content=matte, headers=any_version), 422, "invalid-matte")
    # The header is right; what follows is found out by the worker.
    good = png(np.random.default_rng(0).integers(0, 256, (400, 300), np.uint8))
    broken = good[:2_000] + bytes(2_000) + good[4_000:]
    http.put(path, content=broken, headers=any_version).raise_for_status()
    after = settled(http, item)
    assert (after["status"], after["version"]) == ("succeeded", 1)
    assert after["redo"]["error"]["code"] == "invalid-matte"
    large = http.put(path, content=bytes(51 * 1024**2), headers=any_version)
    assert_problem(large, 413, "request-too-large")


def test_an_image_is_made_again_by_other_options(
    client: MattingClient, http: httpx.Client, photos: Path
) -> None:
    item = item_of(client, photos, {})
    path = f"/v1/items/{item['id']}/redo"
    asked = client.results.redo(item["id"], options={"format": "jpeg", "background": "#00ff00"})
    assert (asked["version"], asked["result_format"], asked["status"]) == (1, "png", "succeeded")
    after = client.results.wait(item["id"])
    assert (after["version"], after["result_format"]) == (2, "jpg")
    result = http.get(f"/v1/items/{item['id']}/result", follow_redirects=True).content
    assert result.startswith(b"\xff\xd8\xff")
    # A JPEG holds no matte, so it was kept.
    assert grey(http.get(f"/v1/items/{item['id']}/matte").content).shape == (400, 300)
    assert_problem(http.post(path, json={"model": "none"}), 422, "unknown-model")
    for options in ({"no": 1}, {"group_by": "folder"}):
        assert_problem(http.post(path, json={"options": options}), 422, "invalid-options")
    picture = {"background": {"image": "s3://matting/jobs/x/y.png"}}
    assert_problem(http.post(path, json={"options": picture}), 403, "forbidden-source")
    client.results.redo(item["id"], subject={"box": [0, 0, 1, 0.8]})
    assert client.results.wait(item["id"])["version"] == 3
    [first, second, third] = client.results.versions(item["id"])
    assert (first["options"]["format"], second["options"]["format"]) == ("png", "jpeg")
    assert third["options"]["subject"]["box"] == [0, 0, 1, 0.8]
    assert {one["model"] for one in (first, second, third)} == {"builtin"}
    assert_problem(
        http.post(f"/v1/items/{item['id']}/versions/9/restore"), 404, "version-not-found"
    )


def test_the_command_redo_says_what_became_of_it(
    client: MattingClient, photos: Path, stack: Stack
) -> None:
    item = item_of(client, photos, {})
    data = ["--data", str(stack.data)]
    done = matting("redo", item["id"], "--option", "format=webp", *data)
    assert (done.returncode, done.stdout) == (0, f"{item['name']}: version 2\n")
    assert client.results.item(item["id"])["result_format"] == "webp"
    png, etag = client.results.matte(item["id"])
    client.results.put_matte(item["id"], png, etag)
    assert client.results.wait(item["id"])["version"] == 3
    assert client.results.restore(item["id"], 1)["result_format"] == "png"
    assert client.results.thumbnail(item["id"]) != client.results.thumbnail(
        item["id"], of_photo=True
    )
    assert matting("redo", "x", *data).returncode == 2


def test_photo_and_thumbnails_come_upright_and_small(
    client: MattingClient, http: httpx.Client, photos: Path
) -> None:
    item = item_of(client, photos, {})
    for name, mode in (("thumbnail", "RGBA"), ("photo-thumbnail", "RGB")):
        answer = http.get(f"/v1/items/{item['id']}/{name}")
        assert answer.headers["content-type"] == "image/webp"
        with PIL.Image.open(io.BytesIO(answer.content)) as image:
            assert (image.size, image.mode) == ((156, 208), mode)
        known = {"If-None-Match": answer.headers["etag"]}
        assert http.get(f"/v1/items/{item['id']}/{name}", headers=known).status_code == 304
    sent = (photos / "turned.jpg").read_bytes()
    redirect = http.get(f"/v1/items/{item['id']}/photo")
    assert redirect.status_code == 307
    assert httpx.get(redirect.headers["location"]).content == sent
    inline = http.get(f"/v1/items/{item['id']}/photo?inline=1")
    assert (inline.status_code, inline.headers["content-type"]) == (200, "image/jpeg")
    assert inline.content == sent


def test_another_key_finds_nothing_and_a_key_that_reads_changes_nothing(
    client: MattingClient, http: httpx.Client, reader: httpx.Client, photos: Path
) -> None:
    item = item_of(client, photos, {})
    for missing in (item["id"], str(uuid.uuid4())):
        for name in ("matte", "thumbnail", "photo-thumbnail", "photo", "versions"):
            assert_problem(reader.get(f"/v1/items/{missing}/{name}"), 404, "item-not-found")
    changes = (("PUT", "matte"), ("POST", "redo"), ("POST", "versions/1/restore"))
    for method, name in changes:
        answer = reader.request(method, f"/v1/items/{item['id']}/{name}", json={})
        assert_problem(answer, 403, "scope-missing")


def test_killing_the_worker_while_results_are_made_again_loses_none(
    stack: Stack, client: MattingClient, folder: Path
) -> None:
    files = [(folder / "x.jpg", f"{number:02d}.jpg") for number in range(24)]
    job = client.wait(client.submit_files(files)["id"])
    items = list(client.items(job["id"]))
    assert len(items) == 24
    for item in items:
        client.results.redo(item["id"], options={"format": "webp"})
    [worker] = stack.workers
    worker.popen.kill()
    worker.popen.wait(180)
    made = [client.results.wait(item["id"]) for item in items]
    assert all((item["version"], item["redo"]) == (2, None) for item in made)
    after = client.job(job["id"])
    assert after["status"] == "finished"
    assert after["counts"] == job["counts"]
    for item in items:
        assert client.content(item["result"] or "").startswith(b"RIFF")


def test_versions_are_removed_with_their_job(
    client: MattingClient, http: httpx.Client, photos: Path, stack: Stack
) -> None:
    item = item_of(client, photos, {"format": "webp"})
    matte = http.get(f"/v1/items/{item['id']}/matte").content
    http.put(f"/v1/items/{item['id']}/matte", content=matte, headers={"If-Match": "*"})
    assert settled(http, item)["version"] == 2
    database = Database(stack.settings.database_url, process="tests")
    with database.transaction() as session:
        found = job_store.get_item(
            session, uuid.UUID(item["id"]), api_key_id=stack_key(session, item)
        )
        assert found is not None
        made = {version.job.id for version in job_store.list_versions(session, found[0])}
    client.delete(item["job_id"])
    storage = Storage(stack.settings)

    def gone() -> bool:
        with database.transaction() as session:
            rows = job_store.existing_jobs(session, [*made, uuid.UUID(item["job_id"])])
        folders = [f"jobs/{one}/" for one in (*made, item["job_id"])]
        return not rows and not any(list(storage.list_keys(folder)) for folder in folders)

    assert eventually(gone, "the versions to be removed")
    storage.close()
    database.close()


def stack_key(session: Any, item: dict[str, Any]) -> uuid.UUID:
    """The API key of an item's job."""
    job = job_store.load_job(session, uuid.UUID(item["job_id"]))
    assert job is not None
    return job.api_key_id
