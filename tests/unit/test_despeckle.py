"""Specks and pinholes are removed; meaningful parts, gaps and haze stay."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.imaging.arrays import Plane
from worker.imaging.despeckle import despeckle


def disc() -> Plane:
    alpha = np.zeros((300, 400), np.float32)
    cv2.circle(alpha, (200, 150), 90, 1.0, -1)
    return cv2.GaussianBlur(alpha, (0, 0), 1.5).astype(np.float32)


def dotted(x: int, y: int, radius: int, value: float) -> Plane:
    alpha = disc()
    cv2.circle(alpha, (x, y), radius, value, -1)
    return alpha


def test_a_speck_beside_the_subject_is_removed() -> None:
    assert np.array_equal(despeckle(dotted(40, 40, 3, 1.0)), disc())


def test_a_haze_without_an_opaque_pixel_is_removed() -> None:
    assert np.array_equal(despeckle(dotted(40, 40, 20, 0.4)), disc())


def test_a_second_subject_stays() -> None:
    alpha = dotted(40, 40, 20, 1.0)
    assert np.array_equal(despeckle(alpha), alpha)


def test_a_doubtful_gap_within_the_subject_is_closed() -> None:
    assert np.array_equal(despeckle(dotted(200, 150, 6, 0.5)), disc())


def test_a_clear_hole_stays_open() -> None:
    alpha = dotted(200, 150, 6, 0.0)
    assert np.array_equal(despeckle(alpha), alpha)


def test_glass_stays_half_clear() -> None:
    alpha = dotted(200, 150, 60, 0.5)
    assert np.array_equal(despeckle(alpha), alpha)


def test_everything_stays_if_no_pixel_is_opaque() -> None:
    alpha = (disc() * np.float32(0.4)).astype(np.float32)
    alpha[:20, :20] = 0.3
    assert np.array_equal(despeckle(alpha), alpha)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_despeckling_keeps_shape_and_range(seed: int, height: int, width: int) -> None:
    alpha = np.random.default_rng(seed).random((height, width), np.float32)
    result = despeckle(alpha)
    assert result.shape == alpha.shape
    assert result.dtype == np.float32
    assert ((result == alpha) | (result == 0) | (result == 1)).all()
