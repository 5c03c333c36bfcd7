"""A set of photos through the real processes: a common frame, and a turntable of the results."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import PIL.Image
import pytest

from api.client import MattingClient
from shared.storage import Storage


def product(width: int, ending: str = ".jpg") -> bytes:
    """A dark block that stands on a light ground."""
    pixels = np.full((300, 400, 3), 235, np.uint8)
    cv2.rectangle(pixels, (200 - width // 2, 80), (200 + width // 2, 240), (40, 40, 150), -1)
    cv2.GaussianBlur(pixels, (0, 0), 1.2, dst=pixels)
    return bytes(cv2.imencode(ending, pixels)[1])


def test_photos_of_a_folder_become_one_set(
    client: MattingClient, http: httpx.Client, bucket: Storage, tmp_path: Path
) -> None:
    widths = {"1.jpg": 120, "2.jpg": 200, "10.jpg": 80, "10.png": 80}
    for name, width in widths.items():
        bucket.put(f"sets/shoe/{name}", product(width, Path(name).suffix), "image/jpeg")
    bucket.put("sets/shoe/3.jpg", product(90)[:400], "image/jpeg")
    bucket.put("sets/single.jpg", product(100), "image/jpeg")
    asked = {
        "source": {"prefix": "s3://photos/sets/"},
        "options": {
            "group_by": "folder",
            "turntable": True,
            "crop": True,
            "crop_margin": "10%",
            "canvas": "300x300",
            "background": "#ffffff",
            "shadow": "drop",
        },
    }
    used_before = images_used(http)
    answer = http.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    job = client.wait(answer.json()["id"])
    assert job["counts"]["succeeded"] == 6
    assert job["counts"]["failed"] == 1
    items = {one["name"]: one for one in client.items(job["id"])}
    assert [(one["kind"], one["group"]) for one in items.values()] == [
        *[("photo", "shoe")] * 5,
        ("photo", None),
        ("turntable", "shoe"),
    ]
    rows = [json.loads(line) for line in http.get(job_path(job, "report.jsonl")).text.splitlines()]
    assert [row["group"] for row in rows] == ["shoe"] * 5 + [None, "shoe"]
    assert items["shoe/turntable"]["review_reasons"] == ["incomplete"]

    with zipfile.ZipFile(io.BytesIO(http.get(job_path(job, "archive.zip")).content)) as archive:
        viewer = json.loads(archive.read("shoe/turntable.json"))
        assert viewer["images"] == ["1.png", "2.png", "10.jpg.png", "10.png.png"]
        assert (viewer["count"], viewer["missing"]) == (4, 1)
        lows, seen = [], []
        for name in viewer["images"]:
            with PIL.Image.open(io.BytesIO(archive.read(f"shoe/{name}"))) as picture:
                assert picture.size == (300, 300)
                dark = np.asarray(picture.convert("RGB"))[..., 1] < 90
            lows.append(int(np.nonzero(dark.any(1))[0][-1]))
            seen.append(int(dark.any(0).sum()))
        assert max(lows) - min(lows) <= 3, "one baseline"
        assert seen[0] / seen[1] == pytest.approx(0.6, abs=0.05), "one scale"
        assert seen[2] / seen[1] == pytest.approx(0.4, abs=0.05)
        with PIL.Image.open(io.BytesIO(archive.read("shoe/turntable.webp"))) as turntable:
            assert (getattr(turntable, "n_frames", 1), turntable.size) == (4, (300, 300))
    for _ in range(2):  # the second one finds every file
        loaded = [path for _, path in client.download(job["id"], tmp_path)]
        assert len(loaded) == 6
    told = json.loads((tmp_path / "shoe" / "turntable.json").read_bytes())
    assert told == viewer
    assert all((tmp_path / "shoe" / name).is_file() for name in viewer["images"])
    thumbnail = http.get(f"/v1/items/{items['shoe/turntable']['id']}/thumbnail")
    assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/webp")
    assert images_used(http) - used_before == 5, "a turntable costs nothing"


def images_used(http: httpx.Client) -> int:
    months = http.get("/v1/usage").json()["months"]
    return int(months[0]["images"]) if months else 0


def job_path(job: Mapping[str, Any], name: str) -> str:
    return f"/v1/jobs/{job['id']}/{name}"


def test_options_of_sets_are_checked(http: httpx.Client) -> None:
    def refusal(**options: object) -> str:
        source = {"keys": ["s3://photos/a.jpg"]}
        answer = http.post("/v1/jobs", json={"source": source, "options": options})
        assert answer.status_code == 422
        return answer.text

    assert "needs `format` png, webp or jpeg" in refusal(turntable=True, format="psd")
    assert "group_by" in refusal(group_by="sku")
    rows = [{"key": "s3://photos/a.jpg", "group": "a", "options": {"turntable": True}}]
    answer = http.post("/v1/jobs", json={"source": {"keys": rows}})
    if answer.status_code == 202:
        [item] = http.get(f"/v1/jobs/{answer.json()['id']}/items").json()["items"]
        assert item["error"]["code"] == "invalid-options"
    else:
        assert "option of the whole job" in answer.text
