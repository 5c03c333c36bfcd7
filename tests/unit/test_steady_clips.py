"""Steady mattes, the steady frame, and the times of doubt."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.jobs import Reason
from tests.clips import facts_of
from worker.imaging.arrays import Alpha, Box
from worker.video.doubts import MOST_DOUBTS, Doubts
from worker.video.framing import steady_frame
from worker.video.stages import ahead, in_order
from worker.video.steady import Sight, steadied

SIZE = (96, 128)


def moving(
    count: int, noise: float = 0.15, speed: float = 2.0
) -> tuple[list[Sight[int]], list[Alpha]]:
    """A textured disc over a textured ground that moves the other way, with mattes whose edges are
    wrong by chance; and the true alphas.
    """
    rng = np.random.default_rng(3)
    grounds = cv2.GaussianBlur(rng.uniform(0, 160, (96, 400)).astype(np.float32), (0, 0), 2)
    grounds = 60 + 3 * (grounds - grounds.mean())
    skin = cv2.GaussianBlur(rng.uniform(0, 255, (96, 400)).astype(np.float32), (0, 0), 2)
    skin = 170 + 4 * (skin - skin.mean())
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    sights, true = [], []
    for t in range(count):
        centre = 40 + speed * t
        away = np.hypot(x - centre, y - 48)
        alpha = np.clip((26 - away) / 6 + 0.5, 0, 1).astype(np.float32)
        ground = cv2.remap(grounds, x + 100 + t, y, cv2.INTER_LINEAR)
        subject = cv2.remap(skin, x + 200 - speed * t, y, cv2.INTER_LINEAR)
        grey = np.clip(alpha * subject + (1 - alpha) * ground, 0, 255).astype(np.uint8)
        wrong = cv2.GaussianBlur(rng.normal(0, 1, SIZE).astype(np.float32), (0, 0), 2) * 4 * noise
        edge = 4 * alpha * (1 - alpha)
        seen = np.clip(alpha + edge * wrong, 0, 1).astype(np.float32)
        sights.append(Sight(seen, grey, t))
        true.append(alpha)
    return sights, true


def smoothed(sights: list[Sight[int]]) -> list[Sight[int]]:
    with ThreadPoolExecutor(2) as threads:
        return list(steadied(iter(sights), threads, depth=3))


def error(alphas: list[Alpha], true: list[Alpha]) -> float:
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(alphas, true, strict=True)]))


def flicker(alphas: list[Alpha], true: list[Alpha], speed: float = 2.0) -> float:
    """The change of the error at the same point of the subject."""
    shift = np.array([[1, 0, speed], [0, 1, 0]], np.float32)
    off = [a - b for a, b in zip(alphas, true, strict=True)]
    return float(
        np.mean(
            [
                np.abs(b - cv2.warpAffine(a, shift, (SIZE[1], SIZE[0]))).mean()
                for a, b in pairwise(off)
            ]
        )
    )


def test_flicker_is_halved_and_the_error_smaller() -> None:
    sights, true = moving(16)
    before = [sight.alpha for sight in sights]
    after = [sight.alpha for sight in smoothed(sights)]
    assert flicker(after, true) < 0.5 * flicker(before, true)
    assert error(after, true) < error(before, true)


def test_what_the_network_is_sure_of_stays() -> None:
    sights, _ = moving(10)
    for before, after in zip(sights, smoothed(sights), strict=True):
        sure = (before.alpha == 0) | (before.alpha == 1)
        inside = cv2.erode(sure.astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
        assert inside.any()
        assert (before.alpha[inside] == after.alpha[inside]).all()


def test_mattes_begin_anew_at_a_cut() -> None:
    sights, _ = moving(12)
    other = [
        Sight(np.ascontiguousarray(one.alpha[::-1, ::-1]) * 0.9, 255 - one.grey[:, ::-1], 0)
        for one in sights[:6]
    ]
    joined = [*sights[:6], *(Sight(one.alpha, np.ascontiguousarray(one.grey), 6) for one in other)]
    found = smoothed(joined)
    assert [number for number, one in enumerate(found) if one.is_cut] == [6]
    apart = smoothed(sights[:6])
    behind = smoothed(joined[6:])
    for one, alone in zip(found, [*apart, *behind], strict=True):
        assert np.abs(one.alpha - alone.alpha).max() < 1e-5


def test_every_frame_comes_out_once_whatever_the_length() -> None:
    for count in (1, 2, 3, 5, 9, 12):
        sights, _ = moving(count)
        assert [one.frame for one in smoothed(sights)] == list(range(count))


@pytest.mark.parametrize("size", [(20, 512), (512, 20), (1, 64), (5, 5), (63, 65), (2, 300)])
def test_frames_of_any_shape_are_steadied(size: tuple[int, int]) -> None:
    """OpenCV's flow ends the process for small sides, without an error."""
    rng = np.random.default_rng(0)
    sights = [
        Sight(
            rng.random(size, dtype=np.float32), rng.integers(0, 255, size).astype(np.uint8), number
        )
        for number in range(4)
    ]
    assert len(smoothed(sights)) == 4


def steady_box(boxes: Sequence[Box | None]) -> Box | None:
    found = steady_frame(boxes)
    return None if found is None else found.box


def test_the_size_of_a_shadow_is_that_of_the_subject_and_not_of_its_way() -> None:
    walking = [(10 * number, 20, 30 + 10 * number, 80) for number in range(40)]
    found = steady_frame([*walking, None, (0, 0, 500, 300)])
    assert found is not None
    assert found.side_px == 60


def test_the_steady_box_holds_a_moving_subject_but_no_bad_matte() -> None:
    boxes: list[Any] = [(10 + 4 * n, 20, 50 + 4 * n, 80) for n in range(12)]
    assert steady_box(boxes) == (10, 20, 94, 80)
    assert steady_box([*boxes[:5], (0, 0, 500, 300), *boxes[6:]]) == (10, 20, 94, 80)
    assert steady_box([(0, 0, 500, 300), *boxes[1:]]) == (14, 20, 94, 80)
    assert steady_box([None, *boxes[:2], None]) == (10, 20, 54, 80)
    assert steady_box([None, None]) is None
    assert steady_box([]) is None


def test_doubtful_frames_become_times() -> None:
    facts = facts_of(100, (64, 64), 10)
    doubts = Doubts(facts)
    for number in range(100):
        measured = (Reason.SOFT,) if 20 <= number < 30 else ()
        doubts.add(number, measured if number % 5 == 0 else None, 0.9 if number == 70 else 0.01)
    assert [(one.start_s, one.end_s, one.reason) for one in doubts.found()] == [
        (2.0, 3.0, Reason.SOFT),
        (7.0, 7.1, Reason.UNSURE),
    ]


def test_stages_stay_a_bounded_number_of_frames_ahead() -> None:
    read: list[int] = []

    def frames() -> Iterator[int]:
        for number in range(1_000):
            read.append(number)
            yield number

    with ThreadPoolExecutor(2) as threads, ahead(frames(), 4) as near:
        doubled = in_order(near, lambda number: 2 * number, threads, 3)
        for wanted in range(20):
            assert next(doubled) == 2 * wanted
            assert len(read) <= wanted + 12
    assert len(read) < 40, "leaving the block stops the thread"


def test_an_error_of_a_stage_reaches_its_reader() -> None:
    def frames() -> Iterator[NDArray[Any]]:
        yield np.zeros(1)
        raise ValueError("broken")

    with ahead(frames(), 2) as near, pytest.raises(ValueError, match="broken"):
        list(near)


def test_a_clip_has_a_bounded_number_of_doubtful_times_that_cover_all() -> None:
    times = tuple(range(4_800))
    facts = facts_of(4_800, (16, 16), 4)
    doubts = Doubts(facts)
    for number in times:
        doubts.add(number, tuple(Reason) if number % 4 == 0 else (), 0.0)
    found = doubts.found()
    assert len(found) <= MOST_DOUBTS
    for reason in Reason:
        spans = [one for one in found if one.reason is reason]
        for number in times[::4]:
            assert any(s.start_s <= number / 4 and (number + 1) / 4 <= s.end_s for s in spans)
