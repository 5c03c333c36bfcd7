"""The option `subject`: what it may say, and the geometry of boxes and points."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.options import Options
from tests.unit.test_second_opinions import Red, Shelf, run
from worker.imaging.arrays import Alpha
from worker.imaging.subject import at_points, fit, inside_box, neighbourhood, within_frame

share = st.floats(0, 1, allow_nan=False)
sides = st.integers(1, 900)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    left, top = draw(st.floats(0, 0.98)), draw(st.floats(0, 0.98))
    return left, top, draw(st.floats(left + 0.01, 1)), draw(st.floats(top + 0.01, 1))


@st.composite
def alphas(draw: st.DrawFn) -> Alpha:
    """Some discs of some opacity, which may touch or lie outside."""
    alpha = np.zeros((draw(st.integers(1, 60)), draw(st.integers(1, 60))), np.float32)
    for _ in range(draw(st.integers(0, 4))):
        x, y, radius = draw(st.integers(0, 60)), draw(st.integers(0, 60)), draw(st.integers(1, 20))
        cv2.circle(alpha, (x, y), radius, draw(st.floats(0.1, 1)), -1)
    return cv2.GaussianBlur(alpha, (0, 0), 0.8).astype(np.float32)


points = st.lists(st.tuples(share, share, st.integers(0, 1)), min_size=1, max_size=6)


@given(box=boxes(), height=sides, width=sides)
def test_the_neighbourhood_holds_the_box_and_lies_in_the_photo(
    box: tuple[float, float, float, float], height: int, width: int
) -> None:
    left, top, right, bottom = neighbourhood(box, height, width)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert left <= box[0] * width
    assert right >= min(width, box[2] * width - 1e-6)
    assert top <= box[1] * height
    assert bottom >= min(height, box[3] * height - 1e-6)


@given(box=boxes(), height=sides, width=sides, inner=st.tuples(st.integers(1, 99), sides))
def test_what_is_put_back_lies_where_it_was_taken_from(
    box: tuple[float, float, float, float], height: int, width: int, inner: tuple[int, int]
) -> None:
    place = neighbourhood(box, height, width)
    frame = within_frame(np.ones(inner, np.float32), place, height, width)
    assert frame.shape[0] <= height
    assert frame.shape[1] <= width
    rows, columns = np.nonzero(frame)
    scale_x, scale_y = width / frame.shape[1], height / frame.shape[0]
    assert abs(columns.min() * scale_x - place[0]) <= 1 + scale_x
    assert abs((columns.max() + 1) * scale_x - place[2]) <= 1 + scale_x
    assert abs(rows.min() * scale_y - place[1]) <= 1 + scale_y
    assert abs((rows.max() + 1) * scale_y - place[3]) <= 1 + scale_y


@given(alpha=alphas(), box=boxes())
def test_a_box_only_takes_away(alpha: Alpha, box: tuple[float, float, float, float]) -> None:
    kept = inside_box(alpha, box)
    assert ((kept == alpha) | (kept == 0)).all()
    assert (inside_box(kept, box) <= kept).all()


@given(alpha=alphas(), given_points=points)
def test_points_only_take_away(alpha: Alpha, given_points: list[tuple[float, float, int]]) -> None:
    kept = at_points(alpha, given_points)
    assert ((kept == alpha) | (kept == 0)).all()
    assert 0 <= fit(alpha, given_points) <= 1
    if fit(alpha, given_points) == 1:  # nothing had to be divided
        assert (at_points(kept, given_points) == kept).all()


def two_discs(gap: int = 10) -> Alpha:
    """Discs of radius 40, at x = 60 and beyond it."""
    alpha = np.zeros((120, 240), np.float32)
    cv2.circle(alpha, (60, 60), 40, 1, -1)
    cv2.circle(alpha, (140 + gap, 60), 40, 1, -1)
    return cv2.GaussianBlur(alpha, (0, 0), 1.5).astype(np.float32)


LEFT, RIGHT = (60 / 240, 0.5), (150 / 240, 0.5)


@pytest.mark.parametrize(
    ("chosen", "left", "right"),
    [
        ([(*LEFT, 1)], True, False),
        ([(*RIGHT, 1)], False, True),
        ([(*RIGHT, 0)], True, False),
        ([(*LEFT, 1), (*RIGHT, 1)], True, True),
        ([(*LEFT, 1), (*RIGHT, 0)], True, False),
        ([(0.5, 0.02, 1)], False, False),
        ([(0.5, 0.02, 0)], True, True),
    ],
)
def test_points_choose_among_parts(
    chosen: list[tuple[float, float, int]], left: bool, right: bool
) -> None:
    alpha = two_discs()
    kept = at_points(alpha, chosen)
    assert (kept[60, 60] > 0.9, kept[60, 150] > 0.9) == (left, right)
    middle = 105
    assert (kept[:, :middle].sum() > 0.99 * alpha[:, :middle].sum()) == left
    assert (kept[:, middle:].sum() > 0.99 * alpha[:, middle:].sum()) == right


def test_parts_that_touch_are_divided_where_they_are_narrow() -> None:
    alpha = two_discs(gap=-8)
    chosen = [(*LEFT, 1), (132 / 240, 0.5, 0)]
    assert fit(alpha, chosen) == 0.5
    kept = at_points(alpha, chosen)
    assert kept[:, :90].sum() > 0.98 * alpha[:, :90].sum()
    assert kept[:, 102:].sum() < 0.02 * alpha[:, 102:].sum()


def test_a_box_keeps_the_parts_that_lie_mostly_within() -> None:
    kept = inside_box(two_discs(), (0.05, 0.1, 0.46, 0.9))
    assert kept[60, 60] == 1
    assert kept[:, 108:].max() == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "needs either `box` or `points`"),
        ({"box": [0, 0, 1, 1], "points": [[0, 0, 1]]}, "needs either `box` or `points`"),
        ({"box": [0.5, 0, 0.5, 1]}, "`subject.box` must be left, top, right, bottom"),
        ({"box": [0, 0, 1.1, 1]}, "`subject.box` must be left, top, right, bottom"),
        ({"box": [0.5, 0, 0.505, 1]}, "`subject.box` is narrower than 0.01"),
        ({"points": []}, "`subject.points` must have 1 to 32 points"),
        ({"points": [[0, 0, 1]] * 33}, "`subject.points` must have 1 to 32 points"),
        ({"points": [[2, 0, 1]]}, "each of `subject.points` is [x, y, label]"),
        ({"points": [[0, 0, 2]]}, "each of `subject.points` is [x, y, label]"),
        ({"box": [0, 0, float("nan"), 1]}, "finite"),
        ({"circle": [0, 0, 1]}, "Extra inputs"),
    ],
)
def test_a_wrong_subject_is_refused_in_a_sentence(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Options.model_validate({"subject": asked})
    assert said in str(caught.value)


def test_a_subject_survives_the_database() -> None:
    for asked in ({"box": [0, 0.25, 1, 0.75]}, {"points": [[0.5, 0.5, 1], [0, 1, 0]]}):
        options = Options.model_validate({"subject": asked})
        assert Options.model_validate(options.model_dump(mode="json")) == options
        assert options.overridden({}).subject == options.subject


def two_red_discs() -> bytes:
    image = np.full((300, 600, 3), (205, 202, 200), np.uint8)
    cv2.circle(image, (150, 150), 90, (45, 40, 190), -1, cv2.LINE_AA)
    cv2.circle(image, (450, 150), 60, (45, 40, 190), -1, cv2.LINE_AA)
    return bytes(cv2.imencode(".jpg", image)[1])


@pytest.mark.parametrize(
    ("subject", "left", "right"),
    [
        ({"box": [0.6, 0.2, 0.9, 0.8]}, False, True),
        ({"box": [0.05, 0.1, 0.45, 0.9]}, True, False),
        ({"points": [[0.25, 0.5, 1]]}, True, False),
        ({"points": [[0.25, 0.5, 0]]}, False, True),
        (None, True, True),
    ],
)
def test_what_is_meant_is_cut_out_and_the_rest_stays_out(
    subject: dict[str, Any] | None, left: bool, right: bool
) -> None:
    shelf = Shelf(two_red_discs())
    outcome = run(shelf, Red(1), Red(1), asked={"subject": subject})
    assert (outcome.width, outcome.height) == (600, 300)
    picture = cv2.imdecode(np.frombuffer(shelf.stored["r1"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert picture.shape == (300, 600, 4)
    assert (picture[150, 150, 3] > 250, picture[150, 450, 3] > 250) == (left, right)
    assert (picture[150, 80, 3] > 250, picture[150, 400, 3] > 250) == (left, right)
    assert picture[5, 5, 3] < 5


def test_a_point_on_nothing_is_flagged() -> None:
    shelf = Shelf(two_red_discs())
    outcome = run(shelf, Red(1), Red(1), asked={"subject": {"points": [[0.02, 0.02, 1]]}})
    assert [one.value for one in outcome.review] == ["empty"]


def test_the_second_model_answers_where_the_first_misses_the_point() -> None:
    shelf = Shelf(two_red_discs())
    asked = {"subject": {"points": [[0.25, 0.5, 1]]}}
    outcome = run(shelf, Red(0.1), Red(1), asked=asked)
    assert (outcome.model, outcome.review) == ("u2netp", ())
