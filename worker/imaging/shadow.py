"""The shadow of a subject on its background: a drop shadow or a contact shadow."""

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.rendition_values import Shadow, ShadowKind
from worker.imaging.arrays import Box, Image
from worker.imaging.matte import subject_box

CONTACT_HEIGHT_SHARE = 0.06
"""Half the height of a contact shadow's ellipse, as a share of the subject's longer side."""

BASE_HEIGHT_SHARE = 0.06
"""The part of the subject that touches the ground, as a share of its height from below. Its width
gives the width of the contact shadow."""

CONTACT_WIDTH_FACTOR = 1.1
"""Width of a contact shadow, relative to the part that touches the ground."""

MAX_SIDE_PX = 32_000
"""Longest side at which a shadow is drawn: cv2.warpAffine takes 32,767."""

VISIBLE_SIGMAS = 2.5
"""A Gaussian-blurred shadow is invisible beyond this many standard deviations."""


def shadow_extent(shadow: Shadow, size: float) -> tuple[float, float]:
    """How far a shadow is visible beyond the subject's box, in x and in y [px].

    Each value is the larger one of the two sides. `size` is the subject's longer side [px].
    """
    blur = VISIBLE_SIGMAS * shadow.blur * size
    if shadow.kind is ShadowKind.CONTACT:
        wider = (CONTACT_WIDTH_FACTOR - 1) / 2 * size
        return blur + wider, blur + 0.3 * CONTACT_HEIGHT_SHARE * size
    return blur + abs(shadow.dx) * size, blur + abs(shadow.dy) * size


def _base_columns(alpha: Image, box: Box) -> tuple[int, int]:
    """The column range [start, end) of the part of the subject that touches the ground."""
    height = max(1, round(BASE_HEIGHT_SHARE * (box[3] - box[1])))
    lowest = (alpha[box[3] - height : box[3], box[0] : box[2]] > 127).any(0)
    columns = np.nonzero(lowest)[0]
    if not len(columns):
        return box[0], box[2]
    return box[0] + int(columns[0]), box[0] + int(columns[-1]) + 1


def shadow_alpha(
    shadow: Shadow, alpha: Image, *, size: float | None = None
) -> NDArray[np.float32] | None:
    """Draw the shadow of a matte [H, W] uint8 as its own alpha [H, W] float32 in 0..1. `size`: the
    length that the shadow's values are shares of [px]; None: the subject's longer side.

    Returns None when the matte holds no subject. The shadow is drawn at a reduced size and
    enlarged: it is blurred anyway.
    """
    box = subject_box(alpha)
    if box is None:
        return None
    height, width = alpha.shape
    if size is None:
        size = max(box[2] - box[0], box[3] - box[1])
    sigma = shadow.blur * size
    scale = min(1.0, 8 / max(sigma, 1e-3), MAX_SIDE_PX / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    if shadow.kind is ShadowKind.CONTACT:
        layer = np.zeros(small[::-1], np.float32)
        left, right = _base_columns(alpha, box)
        centre = (left + right) / 2 * scale, (box[3] - 0.2 * CONTACT_HEIGHT_SHARE * size) * scale
        axes = (right - left) * CONTACT_WIDTH_FACTOR * scale, CONTACT_HEIGHT_SHARE * size * scale
        cv2.ellipse(layer, (centre, axes, 0), 1.0, -1)
    else:
        moved = np.array([[1, 0, shadow.dx * size], [0, 1, shadow.dy * size]]) * scale
        layer = cv2.warpAffine(
            cv2.resize(alpha, small, interpolation=cv2.INTER_AREA),
            np.array([[1, 0, moved[0, 2]], [0, 1, moved[1, 2]]]),
            small,
        ).astype(np.float32)
        layer /= 255
    if sigma * scale >= 0.2:
        layer = cv2.GaussianBlur(layer, (0, 0), sigma * scale).astype(np.float32)
    if small != (width, height):
        layer = cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR)
    layer = layer.astype(np.float32, copy=False)
    layer *= np.float32(shadow.opacity)
    return layer
