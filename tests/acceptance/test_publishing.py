"""From photos to results that a shop publishes and a reviewer checks, through the whole system."""

import uuid
from pathlib import Path

import cv2
import httpx
import numpy as np
import PIL.Image
import pytest

from api.client import ApiError, MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.command import matting
from tests.acceptance.test_api import assert_problem, session_of
from tests.acceptance.test_api import stranger as stranger


@pytest.fixture
def photos(tmp_path: Path, jpeg: bytes) -> Path:
    """A good photo in a folder, and one without any subject."""
    folder = tmp_path / "photos"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "disc.jpg").write_bytes(jpeg)
    PIL.Image.fromarray(np.full((300, 400, 3), 210, np.uint8)).save(folder / "empty.png")
    return folder


def test_presets_are_listed_with_their_options(stack: Stack) -> None:
    with session_of(stack) as session:
        presets = session.get("/v1/presets").json()["presets"]
    by_name = {preset["name"]: preset for preset in presets}
    assert {"preview", "product", "portrait", "bulk", "amazon", "taobao"} <= set(by_name)
    assert by_name["amazon"]["rules"]["min_fill"] == 0.85
    assert by_name["bulk"]["rules"] is None
    with httpx.Client(base_url=stack.address.api_url) as anyone:
        assert_problem(anyone.get("/v1/presets"), 401, "unauthorized")


def test_one_job_gives_several_files_and_says_which_rules_fail(
    client: MattingClient, photos: Path, tmp_path: Path
) -> None:
    options = {
        "preset": "amazon",
        "extra_outputs": [
            {"name": "{path}-alpha.{ext}", "output": "alpha"},
            {"name": "thumbs/{stem}.{ext}", "max_side_px": 64, "format": "webp"},
        ],
    }
    photo = photos / "shop" / "disc.jpg"
    job = client.wait(client.submit_files([(photo, "shop/disc.jpg")], options=options)["id"])
    assert job["counts"]["succeeded"] == 1
    client.download(job["id"], tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {"shop/disc.jpg", "shop/disc-alpha.png", "thumbs/disc.webp"}
    with PIL.Image.open(tmp_path / "out" / "thumbs" / "disc.webp") as thumb:
        assert thumb.size == (64, 48)
    (item,) = client.items(job["id"])
    assert any("Amazon requires at least 1000 px" in rule for rule in item["outputs"][0]["unmet"])
    white = cv2.imread(str(tmp_path / "out" / "shop" / "disc.jpg"))
    assert white is not None
    assert (white[0] == 255).all()


def test_reviewers_see_doubtful_results_and_answer(
    client: MattingClient, stranger: MattingClient, stack: Stack, photos: Path, tmp_path: Path
) -> None:
    files = [(photos / "shop" / "disc.jpg", "disc.jpg"), (photos / "empty.png", "empty.png")]
    job = client.wait(client.submit_files(files)["id"])
    assert job["review"] == {"needs_review": 1, "accepted": 0, "rejected": 0}
    (item,) = client.items(job["id"], review="pending")
    assert (item["name"], item["review_reasons"]) == ("empty.png", ["empty"])
    with session_of(stack) as session:
        said = session.post(
            f"/v1/items/{item['id']}/review", json={"verdict": "reject", "note": "nothing there"}
        ).json()
        assert (said["verdict"], said["verdict_note"]) == ("reject", "nothing there")
        wrong = session.post(f"/v1/items/{item['id']}/review", json={"verdict": "perhaps"})
        assert_problem(wrong, 422, "invalid-options")
    assert client.job(job["id"])["review"]["rejected"] == 1
    assert list(client.items(job["id"], review="pending")) == []
    for path in ("source", "outputs/0", "result"):
        with pytest.raises(ApiError, match="not-found"):
            stranger.content(f"/v1/items/{item['id']}/{path}")

    data = ("--data", str(stack.data))
    out = tmp_path / "pages"
    made = matting("contact-sheet", job["id"], "--out", str(out), *data)
    assert made.returncode == 0, made.stderr
    assert "2 of 2 images" in made.stdout
    text = (out / "gallery.html").read_text()
    assert text.count("<figure ") == 2
    assert text.count("data:image/jpeg;base64,") == 4
    assert "http" not in text, "it stands alone"
    assert 'id="n1" class="empty"' in text, "the most doubtful first"
    assert "almost no subject found <i>1</i>" in text, "reasons are counted"
    with PIL.Image.open(out / "page-001.png") as page:
        assert page.width > 1_000
    doubtful = matting("contact-sheet", job["id"], "--review", "--out", str(out / "r"), *data)
    assert "1 of 1 image " in doubtful.stdout
    assert (out / "r" / "gallery.html").read_text().count("<figure ") == 1


def test_a_background_picture_needs_read_access(
    stack: Stack, client: MattingClient, bucket: Storage, jpeg: bytes
) -> None:
    bucket.put("backs/wall.jpg", jpeg, "image/jpeg")
    bucket.put("in.jpg", jpeg, "image/jpeg")
    mine = {"background": "s3://photos/backs/wall.jpg"}
    job = client.wait(client.submit({"keys": ["s3://photos/in.jpg"]}, options=mine)["id"])
    assert job["counts"]["succeeded"] == 1
    own = stack.settings.s3_bucket
    for place in (
        f"s3://{own}/uploads/{uuid.uuid4()}/x",
        f"s3://{own}/jobs/{uuid.uuid4()}/results/x.png",
        "s3://elsewhere/wall.jpg",
        "s3://photos/../secret",
    ):
        for asked in (
            {"background": place},
            {"extra_outputs": [{"name": "x", "background": place}]},
        ):
            with pytest.raises(ApiError, match="forbidden-source"):
                client.submit({"keys": ["s3://photos/in.jpg"]}, options=asked)
