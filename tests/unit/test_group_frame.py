"""The common frame of a group: which boxes it holds, which one bad matte it ignores, and that all
results get one size, scale and baseline.
"""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from shared.groups import GroupFrame, Measured, ShareBox, common_frame, in_order_of_turn
from shared.options import Options
from worker.imaging.arrays import Image
from worker.imaging.crop_and_canvas import compute_placement
from worker.imaging.group_frame import is_held, measure_box, placement_in_group
from worker.imaging.render import Subject, render
from worker.imaging.shadow import shadow_alpha


def measured(
    left: float,
    top: float,
    right: float,
    bottom: float,
    *reasons: str,
    size: tuple[int, int] = (0, 0),
) -> Measured:
    width, height = size if size[0] else (1000, 800)
    box = (left, top, right, bottom)
    return Measured(width=width, height=height, box=box, reasons=reasons)


def turned(count: int, luck: random.Random) -> list[Measured]:
    """A turned box with a handle: its sides swing like real ones, with the noise of mattes."""
    width, depth, handle = luck.uniform(0.1, 0.3), luck.uniform(0.05, 0.3), luck.uniform(0, 0.12)
    found = []
    for step in range(count):
        angle = 2 * math.pi * step / count
        half = (width * abs(math.cos(angle)) + depth * abs(math.sin(angle))) / 2
        noise = luck.uniform(-0.002, 0.002)
        found.append(
            measured(
                0.5 - half - max(0, handle * math.sin(angle)) + noise,
                0.2 + noise,
                0.5 + half + max(0, -handle * math.sin(angle)) + noise,
                0.85 + noise,
            )
        )
    return found


@pytest.mark.parametrize("count", [8, 12, 24, 36, 72])
def test_the_frame_holds_every_view_of_a_turn(count: int) -> None:
    for seed in range(60):
        views = turned(count, random.Random(seed))
        frame = common_frame(views)
        assert frame is not None
        for side in range(4):
            sides = [one.box[side] for one in views if one.box]
            assert frame.box[side] == (min if side < 2 else max)(sides), (seed, side)


BAD: list[ShareBox] = [
    (0.0, 0.0, 1.0, 1.0),
    (0.0, 0.2, 0.6, 0.85),
    (0.3, 0.2, 0.7, 1.0),
    (0.49, 0.5, 0.51, 0.52),
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("count", [12, 24, 72])
def test_one_bad_matte_does_not_change_the_frame(count: int, bad: ShareBox) -> None:
    for seed in range(15):
        views = turned(count, random.Random(seed))
        whole = common_frame(views)
        at = random.Random(seed).randrange(count)
        views[at] = replace(views[at], box=bad)
        frame = common_frame(views)
        assert frame is not None
        assert whole is not None
        assert frame.box == pytest.approx(whole.box, abs=0.05), seed
        rest = common_frame([one for one in views if one.box != bad])
        assert rest is not None
        assert frame.box == pytest.approx(rest.box, abs=1e-9), seed


def test_the_frame_does_not_depend_on_the_order() -> None:
    for seed in range(20):
        luck = random.Random(seed)
        views = [*turned(11, luck), measured(*BAD[0])]
        frame = common_frame(views)
        luck.shuffle(views)
        assert common_frame(views) == frame


def test_of_few_photos_only_a_marked_one_is_left_out() -> None:
    front, side = measured(0.4, 0.2, 0.6, 0.8), measured(0.1, 0.2, 0.9, 0.8)
    frame = common_frame([front, side, front])
    assert frame is not None
    assert frame.box == (0.1, 0.2, 0.9, 0.8), "a broad side is no fault"
    frame = common_frame([front, replace(side, reasons=("full",)), front])
    assert frame is not None
    assert frame.box == front.box


def test_photos_without_subject_do_not_count() -> None:
    empty = replace(measured(0, 0, 1, 1), box=None)
    frame = common_frame([empty, measured(0.4, 0.2, 0.6, 0.8), empty])
    assert frame is not None
    assert frame.box == (0.4, 0.2, 0.6, 0.8)
    whole = common_frame([empty])
    assert whole is not None
    assert whole.box == (0.0, 0.0, 1.0, 1.0)
    assert not common_frame([])


def test_one_photo_gets_its_own_frame() -> None:
    for options in (Options(crop=True), Options(canvas="600x600", scale=0.8)):
        frame = common_frame([measured(0.3, 0.25, 0.7, 0.75)])
        assert frame is not None
        own = compute_placement(options, 1000, 800, (300, 200, 700, 600))
        assert placement_in_group(options, 1000, 800, frame) == own


@pytest.mark.parametrize(
    "asked",
    [
        {"crop": True, "crop_margin": "5%"},
        {"canvas": "500x400", "scale": 0.8},
        {"canvas": "1:1", "padding": "10%"},
        {"crop": True, "max_side_px": 300},
        {"canvas": "500x500", "padding": "5%", "enlarge": True, "position": "50% 100%"},
    ],
)
def test_photos_of_other_sizes_show_the_subject_at_the_same_place(asked: dict[str, object]) -> None:
    options = Options.model_validate(asked)
    frame = GroupFrame(1000, 800, (0.2, 0.1, 0.7, 0.9))
    usual = placement_in_group(options, 1000, 800, frame)
    corner = (0.35, 0.6)  # of the usual photo
    for width, height in ((500, 400), (2000, 1600), (900, 900), (1600, 800)):
        other = placement_in_group(options, width, height, frame)
        assert (other.width, other.height) == (usual.width, usual.height)
        scale, left, top = frame.fit_of(width, height)
        seen = (corner[0] * 1000 - left) / scale, (corner[1] * 800 - top) / scale
        for axis in (0, 1):
            start, first = ((usual.left, 0), (usual.top, 1))[axis]
            there = start + (corner[axis] * (1000, 800)[axis] - usual.crop_box[first]) * usual.scale
            start, first = ((other.left, 0), (other.top, 1))[axis]
            here = start + (seen[axis] - other.crop_box[first]) * other.scale
            assert here == pytest.approx(there, abs=1.5 * max(1, other.scale, usual.scale))


def disc(left: int, width: int, height: int = 200) -> tuple[Image, Image]:
    """A photo and its matte: a block that stands on the row 260 of 300."""
    matte = np.zeros((300, 400), np.uint8)
    matte[260 - height : 260, left : left + width] = 255
    return np.full((300, 400, 3), 90, np.uint8), matte


def test_results_of_a_group_have_one_size_scale_and_baseline() -> None:
    photos = [disc(150, 100), disc(120, 160, 180), disc(170, 60)]
    frame = common_frame([measure_box(matte) for _, matte in photos])
    options = Options.model_validate({"crop": True, "crop_margin": "10%", "canvas": "200x200"})
    lows, sizes, highs = set(), set(), []
    for image, matte in photos:
        pixels = render(Subject(image, matte, frame=frame), options)
        rows = np.nonzero((pixels[..., 3] > 127).any(1))[0]
        lows.add(int(rows[-1]))
        highs.append(int(rows[-1] - rows[0]))
        sizes.add(pixels.shape)
    assert sizes == {(200, 200, 4)}
    assert len(lows) == 1
    assert highs[1] / highs[0] == pytest.approx(180 / 200, abs=0.02)
    own = [render(Subject(*one), options) for one in photos]
    assert len({int((one[..., 3] > 127).sum(1).max()) for one in own}) == 3


def test_the_shadow_has_the_same_length_in_all_photos() -> None:
    shadow = Options.model_validate({"shadow": {"kind": "drop", "dx": 0.2, "dy": 0, "blur": 0}})
    ends = []
    for image, matte in (disc(150, 100), disc(190, 20, 60)):
        frame = GroupFrame(400, 300, (0.25, 0.2, 0.75, 260 / 300))
        size = Subject(image, matte, frame=frame).shadow_size(shadow)
        assert shadow.shadow is not None
        alpha = shadow_alpha(shadow.shadow, matte, size=size)
        assert alpha is not None
        ends.append(int(np.nonzero(alpha.any(0))[0][-1]) - int(np.nonzero(matte.any(0))[0][-1]))
    assert ends == [40, 40]


def test_a_subject_beyond_the_frame_is_noticed() -> None:
    frame = GroupFrame(400, 300, (0.25, 0.2, 0.75, 0.9))
    assert is_held((300, 400), (100, 60, 300, 270), frame)
    assert not is_held((300, 400), (40, 60, 300, 270), frame)
    assert is_held((600, 800), (200, 120, 600, 540), frame)
    assert is_held((300, 400), None, frame)


def test_numbers_in_names_are_numbers() -> None:
    names = ["a/10.jpg", "a/2.jpg", "a/1.jpg", "a/B2.jpg", "a/b10.jpg"]
    assert sorted(names, key=in_order_of_turn) == [
        "a/1.jpg",
        "a/2.jpg",
        "a/10.jpg",
        "a/B2.jpg",
        "a/b10.jpg",
    ]
