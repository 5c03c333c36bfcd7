"""remove.bg's API as its clients use it: the package `removebg`, forms, multipart and JSON."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest
import removebg
from removebg import RemoveBg

from deploy.stack.stack import Stack
from tests.acceptance.test_keys import KeyMaker, new_key

__all__ = ["new_key"]


@pytest.fixture
def host(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """The service's address, which the package uses too. Only the host differs."""
    url = stack.address.api_url
    monkeypatch.setattr(removebg.removebg, "API_ENDPOINT", f"{url}/v1.0/removebg")
    headers = {"X-Api-Key": stack.secrets.api_key}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        yield client


@pytest.fixture
def package(host: httpx.Client, stack: Stack, tmp_path: Path) -> RemoveBg:
    return RemoveBg(stack.secrets.api_key, str(tmp_path / "errors.log"))


def image(data: bytes) -> PIL.Image.Image:
    picture = PIL.Image.open(io.BytesIO(data))
    picture.load()
    return picture


def ask(host: httpx.Client, photo: bytes, **fields: str) -> httpx.Response:
    return host.post("/v1.0/removebg", files={"image_file": ("x.jpg", photo)}, data=fields)


def assert_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    [error] = answer.json()["errors"]
    assert error["code"] == code
    assert error["title"]
    assert error["detail"]


def test_the_package_works_with_another_host(
    package: RemoveBg, jpeg: bytes, tmp_path: Path
) -> None:
    photo = tmp_path / "shoe.jpg"
    photo.write_bytes(jpeg)
    package.remove_background_from_img_file(str(photo), size="regular")
    cutout = image((tmp_path / "shoe.jpg_no_bg.png").read_bytes())
    assert (cutout.format, cutout.mode) == ("PNG", "RGBA")
    assert 0 < cutout.width * cutout.height <= 251_000

    encoded = base64.b64encode(jpeg).decode()
    out = tmp_path / "b64.jpg"
    package.remove_background_from_base64_img(
        encoded, size="4k", new_file_name=str(out), bg_color="ff0000"
    )
    whole = image(out.read_bytes())
    assert (whole.format, whole.size) == ("JPEG", image(jpeg).size)
    red = np.asarray(whole.convert("RGB"))[2, 2]
    assert red[0] > 240
    assert red[1] < 15


def test_answers_carry_the_headers_that_plug_ins_read(host: httpx.Client, jpeg: bytes) -> None:
    answer = ask(host, jpeg, size="auto", type="product")
    assert answer.status_code == 200, answer.text
    picture = image(answer.content)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-type"] == "product"
    assert answer.headers["x-credits-charged"] == "1"
    assert (picture.width, picture.height) == (
        int(answer.headers["x-width"]),
        int(answer.headers["x-height"]),
    )
    rows, columns = np.nonzero(np.asarray(picture)[..., 3] >= 25)
    found = {name: int(answer.headers[f"x-foreground-{name}"]) for name in PLACE}
    assert abs(found["top"] - rows.min()) <= 1
    assert abs(found["left"] - columns.min()) <= 1
    assert abs(found["height"] - (rows.max() + 1 - rows.min())) <= 2
    assert abs(found["width"] - (columns.max() + 1 - columns.min())) <= 2

    told = host.post(
        "/v1.0/removebg",
        json={"image_file_b64": base64.b64encode(jpeg).decode(), "size": "auto", "crop": True},
        headers={"Accept": "application/json"},
    ).json()["data"]
    cropped = image(base64.b64decode(told["result_b64"]))
    assert abs(cropped.width - found["width"]) <= 1
    assert abs(told["foreground_width"] - cropped.width) <= 1
    assert told["foreground_top"] == 0


PLACE = ("top", "left", "width", "height")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"format": "jpg"}, "image/jpeg"),
        ({"format": "webp", "bg_color": "green"}, "image/webp"),
        ({"format": "zip"}, "application/zip"),
        ({"channels": "alpha"}, "image/png"),
        ({"roi": "10% 10% 90% 90%", "crop_margin": "5% 10px", "crop": "true"}, "image/png"),
        ({"roi": "10px 10px 200px 150px"}, "image/png"),
        ({"scale": "50%", "position": "20% 80%"}, "image/png"),
        ({"scale": "original", "position": "original", "bg_color": ""}, "image/png"),
        ({"semitransparency": "false", "add_shadow": "true", "type": "car"}, "image/png"),
        ({"unknown": "parameter", "type_level": "2"}, "image/png"),
    ],
)
def test_every_parameter_is_understood(
    host: httpx.Client, jpeg: bytes, fields: dict[str, str], kind: str
) -> None:
    answer = ask(host, jpeg, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == kind


def test_semitransparency_false_leaves_no_semitransparent_regions(
    host: httpx.Client, jpeg: bytes
) -> None:
    def soft(**fields: str) -> float:
        alpha = np.asarray(image(ask(host, jpeg, size="auto", **fields).content))[..., 3]
        return float(((alpha > 8) & (alpha < 247)).mean())

    assert soft(semitransparency="false") <= soft() + 0.01


def test_a_background_picture_is_used(host: httpx.Client, jpeg: bytes) -> None:
    blue = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), (0, 0, 255)).save(blue, "PNG")
    answer = host.post(
        "/v1.0/removebg",
        files={"image_file": ("x.jpg", jpeg), "bg_image_file": ("b.png", blue.getvalue())},
    )
    assert answer.status_code == 200, answer.text
    corner = np.asarray(image(answer.content).convert("RGB"))[2, 2]
    assert corner[2] > 240
    assert corner[0] < 15


def test_errors_have_the_shape_that_clients_read(
    host: httpx.Client, jpeg: bytes, new_key: KeyMaker, stack: Stack
) -> None:
    assert_error(host.post("/v1.0/removebg", data={"size": "auto"}), 400, "missing_source")
    assert_error(ask(host, b"<html>"), 400, "invalid_file_type")
    assert_error(ask(host, b""), 400, "missing_source")
    assert_error(ask(host, jpeg, size="huge"), 400, "invalid_size")
    assert_error(ask(host, jpeg, bg_color="nocolour"), 400, "invalid_bg_color")
    assert_error(ask(host, jpeg, bg_color="rgb(300,0,0)"), 400, "invalid_bg_color")
    assert_error(ask(host, jpeg, bg_color="ff000080"), 400, "invalid_bg_color")
    assert_error(ask(host, jpeg, roi="1 2 3"), 400, "invalid_roi")
    assert_error(ask(host, jpeg, crop_margin="wide"), 400, "invalid_crop_margin")
    assert_error(ask(host, jpeg, image_url="http://example.com/x.jpg"), 400, "multiple_sources")
    private = {"image_url": f"{stack.address.api_url}/healthz"}
    assert_error(host.post("/v1.0/removebg", data=private), 400, "invalid_image_url")
    deep = host.post(
        "/v1.0/removebg",
        content=b"[" * 100_000,
        headers={"content-type": "application/json"},
    )
    assert_error(deep, 400, "bad-request")
    wrong = {"X-Api-Key": "mtk_wrong"}
    assert_error(host.post("/v1.0/removebg", headers=wrong), 403, "auth_failed")
    new_key("--quota", "0")
    poor = {"X-Api-Key": new_key.secret}
    files = {"image_file": ("x.jpg", jpeg)}
    answer = host.post("/v1.0/removebg", files=files, headers=poor)
    assert_error(answer, 402, "insufficient_credits")
    account = host.get("/v1.0/account", headers=poor).json()["data"]["attributes"]
    assert account["credits"]["total"] == 0


def test_a_truncated_photo_is_refused_at_once(host: httpx.Client, jpeg: bytes) -> None:
    assert_error(ask(host, jpeg[: len(jpeg) // 2]), 400, "invalid_file_type")
