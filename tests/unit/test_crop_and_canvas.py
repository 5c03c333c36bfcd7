"""Crop, canvas, scale and position: the subject's place, to the pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.options import Options
from worker.imaging.crop_and_canvas import compute_placement
from worker.imaging.matte import subject_box
from worker.imaging.pasting import paste

PHOTO = (400, 300)
SUBJECT = (100, 50, 200, 250)
"""The subject's left, top, right and bottom: 100 × 200 pixels."""


def subject_on(options: Options) -> tuple[int, int, float, float, float, float]:
    """Canvas width and height; the subject's left, top, right, bottom on it."""
    p = compute_placement(options, *PHOTO, SUBJECT)
    left = p.left + (SUBJECT[0] - p.crop_box[0]) * p.scale
    top = p.top + (SUBJECT[1] - p.crop_box[1]) * p.scale
    return p.width, p.height, left, top, left + 100 * p.scale, top + 200 * p.scale


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, (400, 300, 100, 50, 200, 250)),
        ({"crop": True}, (100, 200, 0, 0, 100, 200)),
        ({"crop": True, "crop_margin": "10px"}, (120, 220, 10, 10, 110, 210)),
        ({"crop": True, "crop_margin": "10%"}, (120, 240, 10, 20, 110, 220)),
        ({"crop": True, "crop_margin": "0 5px"}, (110, 200, 5, 0, 105, 200)),
        ({"crop": True, "crop_margin": "1px 2px 3px 4px"}, (106, 204, 4, 1, 104, 201)),
        ({"crop": True, "canvas": "1:1"}, (200, 200, 50, 0, 150, 200)),
        ({"crop": True, "canvas": "1:1", "max_side_px": 100}, (100, 100, 25, 0, 75, 100)),
        ({"canvas": "1:1", "scale": "50%"}, (400, 400, 150, 100, 250, 300)),
        ({"canvas": "1000x1000", "scale": 0.5, "enlarge": True}, (1000, 1000, 375, 250, 625, 750)),
        (
            {"canvas": "1:1", "scale": 0.5, "enlarge": True, "market": "amazon"},
            (1000, 1000, 375, 250, 625, 750),
        ),
        (
            {"canvas": "1:1", "crop": True, "enlarge": True, "market": "walmart"},
            (1500, 1500, 375, 0, 1125, 1500),
        ),
        ({"canvas": "1:1", "scale": 0.5, "market": "amazon"}, (400, 400, 150, 100, 250, 300)),
        ({"canvas": "1000x1000", "scale": 0.5}, (1000, 1000, 450, 400, 550, 600)),
        ({"canvas": "200x150"}, (200, 150, 50, 25, 100, 125)),
        ({"position": "center"}, (400, 300, 150, 50, 250, 250)),
        ({"position": "0%"}, (400, 300, 0, 0, 100, 200)),
        ({"position": "100% 50%"}, (400, 300, 300, 50, 400, 250)),
        ({"canvas": "800x600", "position": "original"}, (800, 600, 233, 200, 333, 400)),
        ({"max_megapixels": 0.03}, (200, 150, 50, 25, 100, 125)),
        ({"canvas": "220x220", "padding": "10px"}, (220, 220, 60, 10, 160, 210)),
        ({"canvas": "100x100", "padding": "10%"}, (100, 100, 30, 10, 70, 90)),
        ({"canvas": "1000x1000", "padding": "0 0 0 50%"}, (1000, 1000, 700, 400, 800, 600)),
        ({"canvas": "1:1", "padding": "10px 0"}, (220, 220, 60, 10, 160, 210)),
        ({"canvas": "1:1", "padding": "0% 0% 50% 0%"}, (400, 400, 150, 0, 250, 200)),
        (
            {"canvas": "1:1", "padding": "10px 0", "max_side_px": 110},
            (110, 110, 30, 5, 80, 105),
        ),
        ({"canvas": "220x220", "padding": "10px", "position": "0%"}, (220, 220, 10, 10, 110, 210)),
        ({"canvas": "1:1", "padding": "10px", "snap": True}, (220, 220, 60, 10, 160, 210)),
    ],
)
def test_the_subject_is_at_the_requested_position(
    wanted: dict[str, object], expected: tuple[float, ...]
) -> None:
    assert subject_on(Options.model_validate(wanted)) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 100, 100, 200), (0, 50, 100, 150)),
        ((300, 100, 400, 200), (100, 50, 200, 150)),
        ((100, 200, 200, 300), (50, 100, 150, 200)),  # a bust stands on the lower side
        ((100, 0, 200, 100), (50, 0, 150, 100)),
        ((0, 200, 100, 300), (0, 100, 100, 200)),
        ((1, 199, 101, 299), (0, 100, 100, 200)),
    ],
)
def test_a_subject_that_the_photo_cuts_off_stays_at_that_side(
    box: tuple[int, int, int, int], expected: tuple[int, int, int, int]
) -> None:
    for more in ({}, {"crop": True}, {"position": "center"}, {"scale": 0.5}):
        wanted = {"canvas": "200x200", "padding": None if "scale" in more else "0", "snap": True}
        options = Options.model_validate(wanted | more)
        p = compute_placement(options.model_copy(update={"enlarge": False}), *PHOTO, box)
        left = p.left + (box[0] - p.crop_box[0]) * p.scale
        top = p.top + (box[1] - p.crop_box[1]) * p.scale
        found = (left, top, left + 100 * p.scale, top + 100 * p.scale)
        assert found == pytest.approx(expected, abs=1), more


@pytest.mark.parametrize(
    "wrong",
    [
        {"padding": "10px"},
        {"canvas": "100x100", "padding": "50px"},
        {"canvas": "1:1", "padding": "60% 0 40% 0"},
        {"canvas": "1:1", "padding": "10%", "scale": 0.5},
    ],
)
def test_padding_that_leaves_no_room_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="padding"):
        Options.model_validate(wrong)


@given(
    width=st.integers(8, 300),
    height=st.integers(8, 300),
    data=st.data(),
    crop=st.booleans(),
    canvas=st.sampled_from([None, "1:1", "1:1.44", "16:9", "64x48", "500x500"]),
    scale=st.sampled_from([None, 0.1, 0.5, 0.9, 1.0]),
    max_side_px=st.sampled_from([None, 16, 100]),
    enlarge=st.booleans(),
)
def test_any_frame_holds_the_subject_and_keeps_its_shape(
    width: int,
    height: int,
    data: st.DataObject,
    crop: bool,
    canvas: str | None,
    scale: float | None,
    max_side_px: int | None,
    enlarge: bool,
) -> None:
    left = data.draw(st.integers(0, width - 4))
    top = data.draw(st.integers(0, height - 4))
    right = data.draw(st.integers(left + 4, width))
    bottom = data.draw(st.integers(top + 4, height))
    matte = np.zeros((height, width), np.uint8)
    matte[top:bottom, left:right] = 255
    options = Options(
        crop=crop, canvas=canvas, scale=scale, max_side_px=max_side_px, enlarge=enlarge
    )
    placement = compute_placement(options, width, height, (left, top, right, bottom))
    image = np.full((height, width, 3), 200, np.uint8)
    colours, alpha = paste(placement, image, matte)
    assert alpha.shape == (placement.height, placement.width)
    assert colours.shape == (*alpha.shape, 3)
    if max_side_px:
        assert max(alpha.shape) <= max_side_px
    if not enlarge:
        assert placement.scale <= 1
    area = (right - left) * (bottom - top) * placement.scale**2
    rim = 2 * ((right - left) + (bottom - top)) * placement.scale + 6
    assert alpha.sum() / 255 == pytest.approx(area, abs=rim)


def test_colours_are_resized_without_the_old_background() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[:] = (255, 0, 0)
    image[30:71, 30:71] = (0, 0, 255)
    matte = np.zeros((100, 100), np.uint8)
    matte[30:71, 30:71] = 255
    placement = compute_placement(Options(max_side_px=33), 100, 100, (30, 30, 71, 71))
    colours, alpha = paste(placement, image, matte)
    seen = alpha > 0
    assert (colours[seen][:, 0] <= 1).all()
    assert (colours[seen][:, 2] >= 254).all()


def test_specks_do_not_widen_the_box() -> None:
    matte = np.zeros((900, 1200), np.uint8)
    matte[200:700, 300:801] = 255
    matte[20:24, 20:24] = 255
    assert subject_box(matte) == (300, 200, 801, 700)
    assert subject_box(np.zeros((10, 10), np.uint8)) is None
