"""A clip through the real processes, beside a photo."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import httpx
import numpy as np
import PIL.Image
import pytest

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.command import matting
from tests.waiting import eventually

FRAMES = 15


def film(folder: Path) -> bytes:
    """A dark disc that moves over a light ground: 0.6 s at 25 a second."""
    file = folder / "film.mp4"
    with av.open(str(file), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "10", "crf": "15"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((128, 192, 3), 235, np.uint8)
            cv2.circle(pixels, (60 + 4 * number, 64), 34, (40, 50, 140), -1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode(None))
    return file.read_bytes()


def test_a_clip_is_cut_out_beside_a_photo(
    stack: Stack,
    client: MattingClient,
    http: httpx.Client,
    bucket: Storage,
    jpeg: bytes,
    tmp_path: Path,
) -> None:
    bucket.put("clips/film.mp4", film(tmp_path), "video/mp4")
    bucket.put("clips/photo.jpg", jpeg, "image/jpeg")
    bucket.put("clips/really-a-photo.gif", jpeg, "image/gif")
    bucket.put("clips/wrong.mov", b"not a clip at all" * 99, "video/quicktime")
    answer = http.post("/v1/jobs", json={"source": {"prefix": "s3://photos/clips/"}})
    job = client.wait(answer.json()["id"])
    items = {one["name"]: one for one in client.items(job["id"])}
    assert {name: (one["kind"], one["status"]) for name, one in items.items()} == {
        "film.mp4": ("clip", "succeeded"),
        "photo.jpg": ("photo", "succeeded"),
        "really-a-photo.gif": ("photo", "succeeded"),
        "wrong.mov": ("clip", "failed"),
    }
    error, clip = items["wrong.mov"]["error"], items["film.mp4"]["clip"]
    assert error is not None
    assert error["code"] == "not-a-clip"
    assert clip is not None
    assert (clip["seconds"], clip["frames"], clip["frames_done"]) == (0.6, FRAMES, FRAMES)
    [row, *_] = [
        json.loads(line)
        for line in http.get(f"/v1/jobs/{job['id']}/report.jsonl").text.splitlines()
    ]
    assert (row["kind"], row["seconds"]) == ("clip", 0.6)

    results = {path.name: path for _, path in client.download(job["id"], tmp_path / "out")}
    assert set(results) == {"film.webm", "photo.png", "really-a-photo.png"}
    with av.open(str(results["film.webm"])) as file:
        context = av.CodecContext.create("libvpx-vp9", "r")
        frames = [frame for packet in file.demux(video=0) for frame in context.decode(packet)]
    assert len(frames) == FRAMES
    first, last = (frames[at].to_ndarray(format="rgba")[..., 3] for at in (0, -1))
    assert first[64, 60] > 220
    assert last[64, 60 + 4 * (FRAMES - 1)] > 220
    assert max(first[5, 5], last[5, 5]) < 30
    for kind in ("thumbnail", "photo-thumbnail"):
        picture = http.get(f"/v1/items/{items['film.mp4']['id']}/{kind}")
        with PIL.Image.open(io.BytesIO(picture.content)) as opened:
            assert opened.format == "WEBP", kind
    data = ("--data", str(stack.data))
    sheets = matting("contact-sheet", job["id"], "--out", str(tmp_path / "pages"), *data)
    assert "3 of 3 images" in sheets.stdout, sheets.stderr
    matte = http.get(f"/v1/items/{items['film.mp4']['id']}/matte")
    assert (matte.status_code, matte.json()["code"]) == (404, "not-kept")
    month = http.get("/v1/usage").json()["months"][0]
    assert month["clip_s"] >= 0.6
    assert month["megapixel_frames"] > 0


@pytest.fixture
def own(stack: Stack) -> Iterator[Storage]:
    """The stack's own bucket, in which a destination may be a folder."""
    storage = Storage(stack.settings)
    yield storage
    storage.close()


def test_a_clip_is_made_again_and_shown_as_it_was_and_goes_with_its_job(
    client: MattingClient,
    http: httpx.Client,
    bucket: Storage,
    own: Storage,
    jpeg: bytes,
    tmp_path: Path,
) -> None:
    bucket.put("again/film.mp4", film(tmp_path), "video/mp4")
    bucket.put("again/film.jpg", jpeg, "image/jpeg")
    asked = {
        "source": {"prefix": "s3://photos/again/"},
        "destination": "s3://matting/again-made/{stem}.{ext}",
    }
    answer = http.post("/v1/jobs", json=asked)
    job = client.wait(answer.json()["id"])
    first = next(one for one in client.items(job["id"]) if one["kind"] == "clip")
    assert_names_agree(client, http, job["id"], tmp_path / "1", "film.mp4.webm")
    old = result_of(http, first["id"])
    assert own.get("matting", "again-made/film.webm", 10**7) == old

    client.results.redo(first["id"], options={"clip_format": "mp4", "background": "#00ff00"})
    second = client.results.wait(first["id"])
    assert (second["version"], second["redo"], second["result_format"]) == (2, None, "mp4")
    assert second["clip"] is not None
    assert (second["clip"]["seconds"], second["clip"]["frames"]) == (0.6, FRAMES)
    (tmp_path / "new.mp4").write_bytes(own.get("matting", "again-made/film.mp4", 10**7))
    assert (tmp_path / "new.mp4").read_bytes() == result_of(http, first["id"])
    with av.open(str(tmp_path / "new.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == FRAMES
    assert np.abs(frames[0][5, 5].astype(int) - (0, 255, 0)).max() < 30
    assert_names_agree(client, http, job["id"], tmp_path / "2", "film.mp4.mp4")

    client.results.redo(first["id"], subject={"box": [0, 0, 1, 1]})
    failed = client.results.wait(first["id"])
    assert (failed["version"], failed["result_format"]) == (2, "mp4")
    assert failed["redo"] is not None
    assert failed["redo"]["error"] is not None
    assert failed["redo"]["error"]["code"] == "invalid-options"

    own.delete_many(["again-made/film.webm"])
    restored = client.results.restore(first["id"], 1)
    assert own.get("matting", "again-made/film.webm", 10**7) == old
    assert (restored["version"], restored["clip"]) == (1, first["clip"])
    assert result_of(http, first["id"]) == old
    shown = [(one["number"], one["shown"]) for one in client.results.versions(first["id"])]
    assert shown[:2] == [(1, True), (2, False)]
    assert_names_agree(client, http, job["id"], tmp_path / "3", "film.mp4.webm")

    stored = http.get(f"/v1/items/{first['id']}/result").headers["location"]
    client.delete(job["id"])
    assert http.get(f"/v1/items/{first['id']}/versions").status_code == 404
    eventually(lambda: httpx.get(stored).status_code == 404, "the files to be removed")


def result_of(http: httpx.Client, item_id: str) -> bytes:
    answer = http.get(f"/v1/items/{item_id}/result", follow_redirects=True)
    return answer.raise_for_status().content


def assert_names_agree(
    client: MattingClient, http: httpx.Client, job_id: str, folder: Path, name: str
) -> None:
    """The zip file names the clip as the download does."""
    loaded = {path.name for _, path in client.download(job_id, folder)}
    packed = io.BytesIO(http.get(f"/v1/jobs/{job_id}/archive.zip").content)
    with zipfile.ZipFile(packed) as archive:
        assert set(archive.namelist()) == loaded == {"film.jpg.png", name}


def test_submit_sends_clips_of_a_folder(stack: Stack, jpeg: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(film(tmp_path))
    (folder / "photo.jpg").write_bytes(jpeg)
    done = matting(
        "submit", str(folder), "--wait", "--option", "background=white", "--data", str(stack.data)
    )
    assert done.returncode == 0, done.stderr
    assert "2 done" in done.stdout + done.stderr
