"""A clip through the real processes, beside a photo."""

import io
import json
from pathlib import Path

import av
import cv2
import httpx
import numpy as np
import PIL.Image

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.command import matting

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
    client: MattingClient, http: httpx.Client, bucket: Storage, jpeg: bytes, tmp_path: Path
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
    matte = http.get(f"/v1/items/{items['film.mp4']['id']}/matte")
    assert (matte.status_code, matte.json()["code"]) == (404, "not-kept")
    month = http.get("/v1/usage").json()["months"][0]
    assert month["clip_s"] >= 0.6
    assert month["megapixel_frames"] > 0


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
