"""The option keep_alpha: a photo that is cut out already keeps its matte and its colours."""

import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.earlier_result import EarlierResult
from shared.errors import MattingError
from shared.options import Options, Profile
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.prepared import PreparedImage
from worker.pipeline.pipeline import Outcome, Pipeline, WorkItem
from worker.pipeline.work_items import requested_outputs


class Counting:
    """A predictor that says: everything is the subject. It counts."""

    def __init__(self) -> None:
        self.images = 0

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        return PreparedImage(image, (("resize", image.shape[:2]),))

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        self.images += len(prepared)
        return [np.ones(one.shape, np.float32) for one in prepared]


class Store:
    """Photos and results in memory."""

    def __init__(self, photo: bytes) -> None:
        self.photo = photo
        self.files: dict[str, bytes] = {}

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        return self.photo

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.files[key] = data


@pytest.fixture
def predictor() -> Counting:
    return Counting()


def cut_out(predictor: Counting, photo: bytes, **options: Any) -> tuple[Outcome, Image]:
    wanted = Options.model_validate(options)
    store = Store(photo)
    item = WorkItem(
        item_id="1",
        bucket="b",
        key="k",
        options=wanted,
        outputs=requested_outputs(wanted, ["results/1.png"]),
    )
    settings = Settings(second_model="none")
    with closing(Pipeline(predictor, store, settings)) as pipeline:
        [outcome] = pipeline.run_many([item])
    assert outcome.error is None
    return outcome, np.asarray(PIL.Image.open(io.BytesIO(store.files["results/1.png"])))


def png(pixels: Image) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def soft_disc() -> Image:
    """A red disc with a soft edge, [200, 300, 4]; what is transparent has no colour."""
    matte = np.zeros((200, 300), np.uint8)
    cv2.circle(matte, (150, 100), 60, 255, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(matte, (0, 0), 4)
    pixels = np.zeros((200, 300, 4), np.uint8)
    pixels[soft > 0, :3] = (200, 30, 40)
    pixels[..., 3] = soft
    return pixels


def test_the_matte_and_the_colours_stay_what_they_are(predictor: Counting) -> None:
    given = soft_disc()
    outcome, result = cut_out(predictor, png(given), keep_alpha=True)
    assert predictor.images == 0, "no network looks at it"
    assert (outcome.model, outcome.review) == (None, ())
    assert (result[..., 3] == given[..., 3]).all()
    alpha = given[..., 3].astype(float) / 255
    shown = [one[..., :3] * alpha[..., None] for one in (given, result)]
    assert np.abs(shown[0] - shown[1]).max() <= 1, "no white comes into the edge"
    _, on_green = cut_out(predictor, png(given), keep_alpha=True, background="#00ff00")
    expected = shown[0] + np.array([0, 255, 0]) * (1 - alpha[..., None])
    assert np.abs(on_green - expected).max() <= 2


def test_a_photo_without_transparency_is_cut_out_as_usual(predictor: Counting) -> None:
    opaque = np.full((200, 300, 3), 90, np.uint8)
    outcome, _ = cut_out(predictor, png(opaque), keep_alpha=True)
    assert predictor.images >= 1
    assert outcome.model is not None


def test_a_photo_that_is_transparent_everywhere_is_marked(predictor: Counting) -> None:
    outcome, _ = cut_out(predictor, png(np.zeros((200, 300, 4), np.uint8)), keep_alpha=True)
    assert outcome.review == ("empty",)


class Known:
    """The photo has a result already."""

    def fingerprint(self, tenant: str, data: bytes, options: Options) -> str:
        return "seen"

    def find_many(
        self, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], EarlierResult]:
        found = EarlierResult(
            result_key="results/0.png",
            outputs=None,
            review_reasons=[],
            width=300,
            height=200,
            output_bytes=1,
            matte_model=None,
            crc32=1,
        )
        return dict.fromkeys(wanted, found)

    def copy(self, source_key: str, key: str) -> None:
        pass


def test_an_earlier_result_is_copied_and_not_stored_again(predictor: Counting) -> None:
    wanted, store = Options(keep_alpha=True), Store(png(soft_disc()))
    item = WorkItem(
        item_id="1",
        bucket="b",
        key="k",
        options=wanted,
        outputs=requested_outputs(wanted, ["results/1.png"]),
    )
    with closing(Pipeline(predictor, store, Settings(second_model="none"), Known())) as pipeline:
        [outcome] = pipeline.run_many([item])
    assert outcome.reused
    assert not store.files
    assert [one.crc32 for one in outcome.outputs] == [1]


def test_contradictory_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        Options.model_validate({"keep_alpha": True, "source_alpha": "ignore"})
