"""Metrics of a matte that predict whether it is wrong; review.py turns them into review reasons.

All are computed at half the network's resolution, from arrays that are in memory already. Shares
are 0..1.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Mask, Plane
from worker.imaging.prepared import PreparedImage

OPAQUE, TRANSPARENT = 0.9, 0.1
"""A pixel with an alpha between TRANSPARENT and OPAQUE counts as undecided."""

MAX_EDGE_PX = 5
"""Largest width of an undecided edge. A wider undecided area is a half-transparent surface."""

WINDOW_RADIUS_PX = 9
"""Radius of the window in which the colours on both sides of an edge are compared."""

MIN_CONTRAST = 0.12
"""Two colours closer than this in every channel are hard to tell apart. Channels span -1..1."""

LIGHT_BINS, COLOUR_BINS = 8, 32
"""Bins of the CIELAB histograms of subject and background: of lightness (32 levels each) and of
each colour axis (8 levels each)."""

BACKGROUND_MAJORITY = 0.6
"""A colour counts as a background colour if at least this share of its pixels is background."""

MIN_PIECE_PX = 5
"""Narrower pieces of background colours inside the subject are ignored: shadows, seams, prints."""

MIN_COLOUR_PIXELS = 20
"""Smallest number of pixels that a colour histogram needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatteMetrics:
    """The metrics of one matte. The settings `review_*` hold a threshold for each."""

    coverage: float
    """Share of the photo that the subject covers."""
    cut: float
    """Share of the photo's border that lies in the subject."""
    parts: int
    """Number of connected parts with at least 1 % of the largest part's area."""
    soft: float
    """Area of half-transparent surfaces (without edges), relative to the subject's."""
    hidden: float
    """Share of the edge whose two sides have nearly the same colour."""
    alike: float
    """Share of the subject that has background colours."""
    sharpness: float
    """Standard deviation of the Laplacian inside the subject, in levels of 255."""
    side_px: int
    """Shorter side of the photo."""
    seen_px: int
    """Shorter side of the photo in the network's input."""
    disagreement: float | None = None
    """Difference between the mattes of the photo and of its mirror image, relative to the subject's
    size; None when the mirror image was not predicted."""


def measure(alpha: Plane, prepared: PreparedImage, side_px: int) -> MatteMetrics:
    """Compute the metrics of the network's alpha [h, w] float32 in 0..1 and its input.

    `side_px` is the shorter side of the photo.
    """
    alpha = prepared.without_padding(alpha)
    image = prepared.photo()[::2, ::2] * np.float32(1 / 127.5) - np.float32(1)
    alpha = np.ascontiguousarray(alpha[::2, ::2])
    solid = (alpha > 0.5).astype(np.uint8)
    frame = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    return MatteMetrics(
        coverage=float(solid.mean()),
        cut=float(frame.mean()),
        parts=_count_parts(solid),
        soft=_half_transparent_share(alpha),
        hidden=_low_contrast_share(image, alpha, solid),
        alike=_background_coloured_share(image, alpha, solid),
        sharpness=_sharpness(image, solid),
        side_px=side_px,
        seen_px=min(prepared.content_size),
    )


def disagreement(alpha: Plane, of_mirrored: Plane, prepared: PreparedImage) -> float:
    """The difference of two alphas, of the photo and its mirror image, relative to the subject."""
    first = prepared.without_padding(alpha)
    return difference(first, prepared.without_padding(of_mirrored[:, ::-1]))


def difference(first: Plane, second: Plane) -> float:
    """The difference of two alphas [h, w] of the same photo, relative to the subject's size."""
    size = max(float(first.sum()), float(second.sum()), 0.002 * first.size)
    return float(np.abs(first - second).sum()) / size


def _count_parts(solid: Mask) -> int:
    count, _, stats, _ = cv2.connectedComponentsWithStats(solid)
    if count < 2:
        return 0
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas >= 0.01 * areas.max()).sum())


def _half_transparent_share(alpha: Plane) -> float:
    undecided = cv2.inRange(alpha, TRANSPARENT, OPAQUE)
    wide = cv2.morphologyEx(
        undecided, cv2.MORPH_OPEN, np.ones((MAX_EDGE_PX, MAX_EDGE_PX), np.uint8)
    )
    return cv2.countNonZero(wide) / max(float(alpha.sum()), 1.0)


def _low_contrast_share(image: Plane, alpha: Plane, solid: Mask) -> float:
    """The share of the edge whose two sides have mean colours closer than MIN_CONTRAST."""
    edge = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if not edge.any():
        return 0.0
    side = (2 * WINDOW_RADIUS_PX + 1, 2 * WINDOW_RADIUS_PX + 1)
    inside, outside = (alpha > OPAQUE).astype(np.float32), (alpha < TRANSPARENT).astype(np.float32)
    mass_in, mass_out = cv2.boxFilter(inside, -1, side), cv2.boxFilter(outside, -1, side)
    mean_in = cv2.boxFilter(image * inside[..., None], -1, side)
    mean_out = cv2.boxFilter(image * outside[..., None], -1, side)
    known = edge & (mass_in > 1e-3) & (mass_out > 1e-3)
    if not known.any():
        return 1.0
    difference = mean_in[known] / mass_in[known, None] - mean_out[known] / mass_out[known, None]
    return float((np.abs(difference).max(1) < MIN_CONTRAST).mean())


def _background_coloured_share(image: Plane, alpha: Plane, solid: Mask) -> float:
    """The share of the subject in pieces that a colour histogram would assign to the background."""
    inside, outside = solid > 0, alpha < TRANSPARENT
    if inside.sum() < MIN_COLOUR_PIXELS or outside.sum() < MIN_COLOUR_PIXELS:
        return 0.0
    lab = cv2.cvtColor(cv2.convertScaleAbs(image + 1, alpha=127.5), cv2.COLOR_RGB2LAB)
    light, red_green, blue_yellow = (lab[..., channel].astype(np.int32) for channel in range(3))
    bins = ((light >> 5) * COLOUR_BINS + (red_green >> 3)) * COLOUR_BINS + (blue_yellow >> 3)
    of_subject, of_background = (
        _smoothed_histogram(bins[inside]),
        _smoothed_histogram(bins[outside]),
    )
    background = of_background > BACKGROUND_MAJORITY * (of_subject + of_background)
    pieces = (background[bins] & inside).astype(np.uint8)
    pieces = cv2.morphologyEx(
        pieces, cv2.MORPH_OPEN, np.ones((MIN_PIECE_PX, MIN_PIECE_PX), np.uint8)
    )
    return cv2.countNonZero(pieces) / int(inside.sum())


def _smoothed_histogram(bins: NDArray[np.int32]) -> Plane:
    """A normalised histogram, smoothed with [1/2, 1, 1/2] so that bin borders matter less."""
    counts = np.bincount(bins, minlength=LIGHT_BINS * COLOUR_BINS**2).astype(np.float32)
    cube: NDArray[Any] = np.pad(counts.reshape(LIGHT_BINS, COLOUR_BINS, COLOUR_BINS), 1)
    cube = cube[1:-1] + (cube[:-2] + cube[2:]) / 2
    cube = cube[:, 1:-1] + (cube[:, :-2] + cube[:, 2:]) / 2
    cube = cube[:, :, 1:-1] + (cube[:, :, :-2] + cube[:, :, 2:]) / 2
    return np.asarray(cube.ravel() / (8 * len(bins)), np.float32)


def _sharpness(image: Plane, solid: Mask) -> float:
    inside = solid > 0
    if inside.sum() < 50:
        return 255.0
    grey = cv2.transform(image, np.full((1, 3), 1 / 3, np.float32))
    return float(cv2.Laplacian(grey, cv2.CV_32F)[inside].std() * 127.5)
