"""What is measured on every matte, before anybody looks: shares, parts, softness, colours, detail.

All of it is worked out at half the network's resolution, from what is in memory anyway.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Mask, Plane
from worker.imaging.prepared import PreparedImage

SURE, UNSURE = 0.9, 0.1
"""Alphas above and below which a pixel counts as decided."""

EDGE_PX = 5
"""What is undecided and narrower is an edge; wider, it is a surface that the network left open."""

WINDOW_PX = 9
"""Half the window in which the two sides of the edge are compared."""

NOTICEABLE = 0.12
"""Two tones closer than this (of 2, the range of a normalised channel) are hard to tell apart."""

LIGHT_BINS, COLOUR_BINS = 8, 32
"""Of the histograms that tell the subject's colours from the background's: CIELAB, 32 levels of
light and 8 of each colour axis to a bin."""

RATHER = 0.6
"""A colour that is to this share the background's is rather the background's."""

PIECE_PX = 5
"""Narrower pieces of such colours are shadows, seams and prints."""

LEAST_PX = 20
"""Fewer pixels say nothing about colours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatteMetrics:
    """What was measured on one matte; shares are 0..1."""

    coverage: float
    """Of the photo, that is subject."""
    cut: float
    """Of the photo's frame, that runs through the subject."""
    parts: int
    """Connected parts of at least 1 % of the largest."""
    soft: float
    """Half-transparent surfaces, edges left out, against the subject's."""
    hidden: float
    """Of the edge, where both sides have nearly the same colour."""
    alike: float
    """Of the subject, pieces whose colours are rather the background's."""
    sharpness: float
    """Standard deviation of the Laplacian within the subject; in levels of 255."""
    side_px: int
    """The shorter one of the photo."""
    disagreement: float | None = None
    """Between the photo's matte and the mirrored one's, against the subject's size."""


def measure(alpha: Plane, prepared: PreparedImage, side_px: int) -> MatteMetrics:
    """Measure an alpha [h, w] in 0..1 of the network, on its own input; `side_px`: the shorter side
    of the photo.
    """
    alpha, tensor = _content(alpha, prepared)
    little = np.ascontiguousarray(tensor[:, ::2, ::2].transpose(1, 2, 0))
    alpha = np.ascontiguousarray(alpha[::2, ::2])
    solid = (alpha > 0.5).astype(np.uint8)
    frame = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    return MatteMetrics(
        coverage=float(solid.mean()),
        cut=float(frame.mean()),
        parts=_parts(solid),
        soft=_soft(alpha),
        hidden=_hidden(little, alpha, solid),
        alike=_alike(little, alpha, solid),
        sharpness=_sharpness(little, solid),
        side_px=side_px,
    )


def disagreement(alpha: Plane, of_mirrored: Plane, prepared: PreparedImage) -> float:
    """How far the alpha is from that of the mirrored photo, against the subject's size."""
    first, _ = _content(alpha, prepared)
    second, _ = _content(of_mirrored[:, ::-1], prepared)
    size = max(float(first.sum()), float(second.sum()), 0.002 * first.size)
    return float(np.abs(first - second).sum()) / size


def _content(alpha: Plane, prepared: PreparedImage) -> tuple[Plane, Plane]:
    """Alpha [h, w] and tensor [3, h, w] without the padding."""
    tensor = prepared.tensor
    if prepared.steps and prepared.steps[-1][0] == "padding":
        height, width = prepared.steps[-1][1]
        return alpha[:height, :width], tensor[:, :height, :width]
    return alpha, tensor


def _parts(solid: Mask) -> int:
    count, _, stats, _ = cv2.connectedComponentsWithStats(solid)
    if count < 2:
        return 0
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas >= 0.01 * areas.max()).sum())


def _soft(alpha: Plane) -> float:
    undecided = cv2.inRange(alpha, UNSURE, SURE)
    wide = cv2.morphologyEx(undecided, cv2.MORPH_OPEN, np.ones((EDGE_PX, EDGE_PX), np.uint8))
    return cv2.countNonZero(wide) / max(float(alpha.sum()), 1.0)


def _hidden(image: Plane, alpha: Plane, solid: Mask) -> float:
    """Of the edge, the share where the mean colours of its two sides are hardly different."""
    edge = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if not edge.any():
        return 0.0
    side = (2 * WINDOW_PX + 1, 2 * WINDOW_PX + 1)
    inside, outside = (alpha > SURE).astype(np.float32), (alpha < UNSURE).astype(np.float32)
    mass_in, mass_out = cv2.boxFilter(inside, -1, side), cv2.boxFilter(outside, -1, side)
    mean_in = cv2.boxFilter(image * inside[..., None], -1, side)
    mean_out = cv2.boxFilter(image * outside[..., None], -1, side)
    known = edge & (mass_in > 1e-3) & (mass_out > 1e-3)
    if not known.any():
        return 1.0
    difference = mean_in[known] / mass_in[known, None] - mean_out[known] / mass_out[known, None]
    return float((np.abs(difference).max(1) < NOTICEABLE).mean())


def _alike(image: Plane, alpha: Plane, solid: Mask) -> float:
    """Of the subject, the share in pieces that the colours alone would give to the background."""
    inside, outside = solid > 0, alpha < UNSURE
    if inside.sum() < LEAST_PX or outside.sum() < LEAST_PX:
        return 0.0
    lab = cv2.cvtColor(cv2.convertScaleAbs(image + 1, alpha=127.5), cv2.COLOR_RGB2LAB)
    light, red_green, blue_yellow = (lab[..., channel].astype(np.int32) for channel in range(3))
    bins = ((light >> 5) * COLOUR_BINS + (red_green >> 3)) * COLOUR_BINS + (blue_yellow >> 3)
    of_subject, of_background = _shares(bins[inside]), _shares(bins[outside])
    background = of_background > RATHER * (of_subject + of_background)
    pieces = (background[bins] & inside).astype(np.uint8)
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_OPEN, np.ones((PIECE_PX, PIECE_PX), np.uint8))
    return cv2.countNonZero(pieces) / int(inside.sum())


def _shares(bins: NDArray[np.int32]) -> Plane:
    """The share of each bin, and of half its neighbours': what lies between two belongs to both."""
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
