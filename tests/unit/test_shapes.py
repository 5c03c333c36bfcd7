"""The grid of the network's input shapes, and the way back to the photo's size."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.imaging.prepared import restore
from worker.imaging.resample import shrink
from worker.inference.shapes import MAX_BEND, STRIDE, ShapeGrid

GRID = ShapeGrid.around(384)
sides = st.integers(1, 6_000)


def test_the_grid_is_small_and_its_shapes_have_similar_areas() -> None:
    assert len(GRID.shapes) <= 16
    for height, width in GRID.shapes:
        assert height % STRIDE == width % STRIDE == 0
        assert 0.8 < height * width / 384**2 < 1.25


@given(sides, sides)
def test_every_photo_fits_its_shape(height: int, width: int) -> None:
    shape, inner = GRID.choose((height, width))
    assert shape in GRID.shapes
    assert 1 <= inner[0] <= shape[0]
    assert 1 <= inner[1] <= shape[1]
    bend = (inner[1] / inner[0]) / (width / height)
    if inner == shape:
        assert max(bend, 1 / bend) <= MAX_BEND
    else:
        assert inner[0] == shape[0] or inner[1] == shape[1]


def test_padding_stays_low_from_9_16_to_16_9() -> None:
    wasted = []
    for ratio in np.geomspace(9 / 16, 16 / 9, 200):
        shape, inner = GRID.choose((1_000, round(1_000 * ratio)))
        wasted.append(1 - math.prod(inner) / math.prod(shape))
    assert np.mean(wasted) < 0.02
    assert max(wasted) < 0.1


@given(st.integers(20, 400), st.integers(20, 400))
def test_restoring_gives_the_photo_s_size(height: int, width: int) -> None:
    prepared = GRID.prepare(np.zeros((height, width, 3), np.uint8))
    assert prepared.image.dtype == np.uint8
    assert prepared.shape in GRID.shapes
    alpha = restore(np.zeros(prepared.shape, np.float32), prepared.steps)
    assert alpha.shape == (height, width)


@pytest.mark.parametrize("size", [(600, 900), (300, 2_400), (2_400, 300)])
def test_restoring_puts_the_subject_back_in_its_place(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    top, left = size[0] // 4, size[1] // 2
    image[top:, left:] = 255
    prepared = GRID.prepare(image)
    back = restore(np.float32(1 / 255) * prepared.image[..., 0].astype(np.float32), prepared.steps)
    expected = image[..., 0] / 255
    assert np.abs(back - expected).mean() < 0.02


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((1_024, 1_024, 3), np.uint8)
    stripes[:, ::2] = 255
    small = shrink(stripes, (96, 96))
    assert small.shape == (96, 96, 3)
    np.testing.assert_allclose(small.astype(float), 127.5, atol=2)
