"""The refined edge against the guided filter's equations in float64."""

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.imaging.arrays import Alpha, Image
from worker.imaging.edge_colours import transition_pixels
from worker.imaging.matte import full_size_alpha
from worker.imaging.refine import EPSILON, WINDOW_RADIUS, refine_alpha

SIDE = 256
"""That of the filter's grid, so that each pixel of the photo is a cell."""


def goods(subject: int, ground: int) -> tuple[Image, Alpha]:
    """A grey disc with a little noise on a ground that touches black or white, and its alpha as a
    network of half the photo's size gives it.
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    share = np.clip(90.5 - np.hypot(x - SIDE / 2, y - SIDE / 2), 0, 1)[..., None]
    noise = np.random.default_rng(3).integers(-2, 3, (SIDE, SIDE, 1))
    photo = np.clip(subject * share + ground * (1 - share) + noise, 0, 255)
    photo = np.clip(photo + np.random.default_rng(4).integers(-1, 2, (SIDE, SIDE, 3)), 0, 255)
    half = cv2.resize(share[..., 0].astype(np.float32), None, fx=0.5, fy=0.5)
    return photo.astype(np.uint8), cv2.GaussianBlur(half, (0, 0), 1.5).astype(np.float32)


def mean_of(plane: NDArray[Any]) -> NDArray[np.float64]:
    side = 2 * WINDOW_RADIUS + 1
    found = cv2.boxFilter(plane, -1, (side, side), borderType=cv2.BORDER_REFLECT)
    return np.asarray(found, np.float64)


def exactly(photo: Image, alpha: Alpha) -> NDArray[np.float64]:
    """Equations 14, 15 and 8 of He, Sun and Tang (2013), for each pixel of the photo."""
    guide = photo / 255
    given = cv2.resize(alpha, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    mean, mean_alpha = mean_of(guide), mean_of(given)
    products = mean_of((guide[..., :, None] * guide[..., None, :]).reshape(SIDE, SIDE, 9))
    covariance = products.reshape(SIDE, SIDE, 3, 3) - mean[..., :, None] * mean[..., None, :]
    with_alpha = mean_of(guide * given[..., None]) - mean * mean_alpha[..., None]
    slopes = np.linalg.solve(covariance + EPSILON * np.eye(3), with_alpha[..., None])[..., 0]
    offset = mean_alpha - (slopes * mean).sum(-1)
    return np.asarray((mean_of(slopes) * guide).sum(-1) + mean_of(offset), np.float64)


@pytest.mark.parametrize(("subject", "ground"), [(4, 252), (252, 4), (120, 235)])
def test_grey_goods_are_refined_as_exactly_as_coloured_ones(subject: int, ground: int) -> None:
    photo, alpha = goods(subject, ground)
    found = refine_alpha(photo, photo, alpha).reshape(-1)
    band = transition_pixels(full_size_alpha(alpha, SIDE, SIDE))
    values = np.clip(exactly(photo, alpha).reshape(-1)[band], 0, 1).astype(np.float32)
    expected = full_size_alpha(values[:, None], 1, len(band))[:, 0]
    off = np.abs(found[band].astype(int) - expected)
    assert len(band) > 1_000
    assert off.mean() < 0.1
    assert off.max() <= 4
