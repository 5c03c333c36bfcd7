"""A hole in the subject that has the subject's colours is filled; one that shows the background, or
what nobody knows, stays open.
"""

from collections.abc import Sequence
from contextlib import closing

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.jobs import Reason
from shared.options import Options, Profile
from shared.settings import Settings
from worker.imaging.arrays import Alpha, Image
from worker.imaging.false_holes import Filled, fill_false_holes
from worker.imaging.prepared import PreparedImage
from worker.pipeline.pipeline import Pipeline, WorkItem
from worker.pipeline.work_items import requested_outputs

GREY, RED, WHITE, BLUE, BLACK = (
    (150, 154, 160),
    (200, 40, 50),
    (235, 233, 230),
    (40, 60, 190),
    (12, 12, 12),
)
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

SUBJECT: Box = (80, 60, 300, 240)
HOLE: Box = (150, 110, 200, 180)


def alpha_with(*holes: Box, value: float = 0.0) -> Alpha:
    """The subject's alpha with holes (left, top, right, bottom), its edges soft."""
    alpha = np.zeros((300, 384), np.float32)
    for (left, top, right, bottom), inside in ((SUBJECT, 1.0), *((hole, value) for hole in holes)):
        alpha[top:bottom, left:right] = inside
    return cv2.GaussianBlur(alpha, (0, 0), 1.0).astype(np.float32)


def photo(background: Colour, subject: Colour, *patches: tuple[Box, Colour]) -> Image:
    """A photo with noise: the subject on the background, and patches of other colours."""
    image = np.empty((300, 384, 3), np.float32)
    image[:] = background
    for (left, top, right, bottom), colour in ((SUBJECT, subject), *patches):
        image[top:bottom, left:right] = colour
    noise = np.random.default_rng(1).normal(0, 2.5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def is_open(filled: Filled, alpha: Alpha) -> bool:
    return np.array_equal(filled.alpha, alpha)


def test_a_hole_of_the_subject_s_colour_is_filled_with_its_edge() -> None:
    filled = fill_false_holes(alpha_with(HOLE), photo(GREY, WHITE))
    assert filled.alpha[70:230, 90:290].min() > 0.98
    assert not filled.unclear


def test_nothing_outside_the_hole_changes() -> None:
    alpha = alpha_with(HOLE)
    filled = fill_false_holes(alpha, photo(GREY, WHITE))
    changed = filled.alpha != alpha
    assert changed[HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]].all()
    changed[HOLE[1] - 6 : HOLE[3] + 6, HOLE[0] - 6 : HOLE[2] + 6] = False
    assert not changed.any()


def test_white_between_red_stripes_of_a_white_shoe_is_filled() -> None:
    stripes = [((left, 100, left + 6, 190), RED) for left in (144, 200, 256)]
    gaps = (150, 100, 200, 190), (206, 100, 256, 190)
    filled = fill_false_holes(alpha_with(*gaps), photo(GREY, WHITE, *stripes))
    assert filled.alpha[70:230, 90:290].min() > 0.99


def test_a_hole_that_shows_the_background_stays() -> None:
    alpha = alpha_with(HOLE)
    assert is_open(fill_false_holes(alpha, photo(GREY, WHITE, (HOLE, GREY))), alpha)


@pytest.mark.parametrize("light", [0.9, 0.6, 0.3, 0.1])
def test_a_hole_that_shows_the_background_in_the_shade_stays(light: float) -> None:
    """Also where the shaded background has the subject's colour."""
    shaded = round(GREY[0] * light), round(GREY[1] * light), round(GREY[2] * light)
    image = photo(GREY, shaded, (HOLE, shaded))
    alpha = alpha_with(HOLE)
    assert is_open(fill_false_holes(alpha, image), alpha)


def test_a_hole_of_a_subject_in_the_background_s_own_colour_stays() -> None:
    alpha = alpha_with(HOLE)
    filled = fill_false_holes(alpha, photo(WHITE, WHITE))
    assert is_open(filled, alpha)
    assert not filled.unclear


def test_a_hole_that_shows_a_thing_of_its_own_stays_and_is_unclear() -> None:
    alpha = alpha_with(HOLE)
    filled = fill_false_holes(alpha, photo(GREY, WHITE, (HOLE, BLUE)))
    assert is_open(filled, alpha)
    assert filled.unclear


def test_of_two_holes_the_false_one_is_filled_alone() -> None:
    other = (220, 110, 270, 180)
    alpha = alpha_with(HOLE, other)
    filled = fill_false_holes(alpha, photo(GREY, WHITE, (other, GREY)))
    assert filled.alpha[HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]].min() == 1
    assert np.array_equal(filled.alpha[:, 210:], alpha[:, 210:])


def test_an_edge_of_half_alpha_does_not_hide_a_hole() -> None:
    alpha = alpha_with((150, 64, 200, 180))
    alpha[60:66, 150:200] = 0.4
    filled = fill_false_holes(alpha, photo(GREY, WHITE))
    assert filled.alpha[70:180, 150:200].min() == 1
    assert np.array_equal(filled.alpha[:60], alpha[:60])


def test_a_grey_hole_is_filled() -> None:
    filled = fill_false_holes(alpha_with(HOLE, value=0.45), photo(GREY, WHITE))
    assert filled.alpha[HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]].min() == 1


@pytest.mark.parametrize("gap", [(150, 0, 200, 180), (150, 110, 384, 180)])
def test_a_gap_that_reaches_the_border_stays(gap: Box) -> None:
    alpha = alpha_with(gap)
    assert is_open(fill_false_holes(alpha, photo(GREY, WHITE)), alpha)


def test_a_hole_stays_where_no_background_is_known() -> None:
    alpha = np.ones((300, 384), np.float32)
    alpha[110:180, 150:200] = 0
    assert is_open(fill_false_holes(alpha, photo(GREY, WHITE)), alpha)


def test_black_and_white_photos_are_judged_by_light_alone() -> None:
    alpha = alpha_with(HOLE)
    assert not is_open(fill_false_holes(alpha, photo((90, 90, 90), (230, 230, 230))), alpha)
    dark = photo((90, 90, 90), (20, 20, 20))  # may be shade
    assert is_open(fill_false_holes(alpha, dark), alpha)


def test_a_dark_garment_s_opening_onto_a_shadow_stays() -> None:
    alpha = alpha_with(HOLE)
    assert is_open(fill_false_holes(alpha, photo(WHITE, BLACK)), alpha)


def test_the_photo_may_have_another_size() -> None:
    large = cv2.resize(photo(GREY, WHITE), (1_152, 900)).astype(np.uint8)
    small = cv2.resize(photo(GREY, WHITE), (192, 150)).astype(np.uint8)
    for image in (large, small):
        filled = fill_false_holes(alpha_with(HOLE), image)
        assert filled.alpha[HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]].min() == 1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 3), (40, 30)])
def test_an_alpha_without_a_subject_or_without_a_background_stays(
    size: tuple[int, int], value: float
) -> None:
    alpha = np.full(size, value, np.float32)
    assert is_open(fill_false_holes(alpha, np.zeros((*size, 3), np.uint8)), alpha)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.integers(0, 6))
def test_filling_only_raises_enclosed_alpha(seed: int, height: int, width: int, blur: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = rng.random((height, width), np.float32)
    image = rng.choice(np.array([20, 130, 240], np.uint8), (height, width, 1)).repeat(3, 2)
    if blur:
        smooth = cv2.GaussianBlur(alpha, (0, 0), blur / 2).reshape(height, width)
        alpha = np.clip((smooth - 0.5) * 4 + 0.5, 0, 1).astype(np.float32)
    before = alpha.copy()
    filled = fill_false_holes(alpha, image).alpha
    assert np.array_equal(alpha, before), "the input must not change"
    assert filled.shape == alpha.shape
    assert filled.dtype == np.float32
    assert (filled[filled != alpha] == 1).all()
    reached = outside(alpha, 0.25)
    assert np.array_equal(filled[reached], alpha[reached])


class Holed:
    """A predictor whose alpha has HOLE, whatever it sees, with padding that shows a subject."""

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        padded = np.pad(image, ((0, 20), (0, 0), (0, 0)))
        size = image.shape[0], image.shape[1]
        return PreparedImage(padded, (("resize", size), ("padding", size)))

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        return [np.pad(alpha_with(HOLE), ((0, 20), (0, 0)), constant_values=1) for _ in prepared]


class Memory:
    """A store with one photo, and what is written to it."""

    def __init__(self, image: Image) -> None:
        self.photo = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        self.files: dict[str, bytes] = {}

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        return self.photo

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.files[key] = data


def through_pipeline(image: Image, **asked: object) -> tuple[bool, Sequence[Reason]]:
    """Whether the hole is open in the matte that a caller gets, and the review reasons."""
    options = Options.model_validate({"output": "alpha", "second_model": "none", **asked})
    store = Memory(image)
    item = WorkItem(
        item_id="1",
        bucket="photos",
        key="a.png",
        options=options,
        outputs=requested_outputs(options, ["r1"]),
    )
    with closing(Pipeline(Holed(), store, Settings())) as pipeline:
        (outcome,) = pipeline.run_many([item])
    assert outcome.error is None
    matte = cv2.imdecode(np.frombuffer(store.files["r1"], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert matte is not None
    return bool(matte[HOLE[1] + 9 : HOLE[3] - 9, HOLE[0] + 9 : HOLE[2] - 9].max() < 9), (
        outcome.review
    )


def test_a_photo_s_false_hole_is_filled_on_its_way() -> None:
    opened, reasons = through_pipeline(photo(GREY, WHITE))
    assert not opened
    assert Reason.UNSURE not in reasons


def test_a_photo_with_an_unclear_hole_is_marked() -> None:
    opened, reasons = through_pipeline(photo(GREY, WHITE, (HOLE, BLUE)))
    assert opened
    assert Reason.UNSURE in reasons


@pytest.mark.parametrize("asked", [{"profile": "exact"}, {"subject": {"points": [[0.3, 0.3, 1]]}}])
def test_what_a_caller_decides_stays_as_the_network_says(asked: dict[str, object]) -> None:
    assert through_pipeline(photo(GREY, WHITE), **asked)[0]


def outside(alpha: Alpha, level: float) -> np.ndarray:
    """Low alpha that is connected with the border."""
    _, labels = cv2.connectedComponents((alpha < level).astype(np.uint8), connectivity=8)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.asarray(np.isin(labels, edge[edge > 0]))


def test_a_thin_ring_of_pixels_between_the_sampled_ones_is_looked_at() -> None:
    """A diamond's line: row + column is odd everywhere, so no lattice of even steps meets it."""
    rows, columns = np.indices((400, 400))
    alpha = np.ones((400, 400), np.float32)
    alpha[abs(rows - 200) + abs(columns - 200) == 161] = 0
    alpha[:10] = 0
    image = np.full((400, 400, 3), RED, np.uint8)
    image[:10] = GREY
    assert fill_false_holes(alpha, image).alpha[10:].min() == 1
