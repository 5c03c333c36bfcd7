"""What lies behind the subject: a colour, a gradient or a picture, and the shadow upon it."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.rendition import Background, BackgroundImage, Gradient, Shadow, ShadowKind
from worker.imaging.arrays import Box, Image
from worker.imaging.matte import subject_box

CONTACT_HEIGHT = 0.06
"""Of a contact shadow's ellipse, as a share of the subject's longer side."""

STANDING = 0.06
"""The lowest part of the subject, as a share of its height: that wide is what it stands on."""

WIDER = 1.1
"""A contact shadow than what the subject stands on."""

FADED = 2.5
"""Standard deviations after which a shadow is not seen any more."""


def rgb(colour: str) -> NDArray[np.uint8]:
    """`#rrggbb` as [3] uint8."""
    return np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)], np.uint8)


def backdrop(background: Background, width: int, height: int, picture: Image | None) -> Image:
    """The background [H, W, 3] uint8; `picture`: of a BackgroundImage, the decoded one."""
    if isinstance(background, Gradient):
        return _gradient(background, width, height)
    if isinstance(background, BackgroundImage):
        assert picture is not None, "the pipeline reads it before it renders"
        return _cover(picture, width, height)
    result = np.empty((height, width, 3), np.uint8)
    result[:] = rgb(background)
    return result


def _gradient(gradient: Gradient, width: int, height: int) -> Image:
    angle = math.radians(gradient.angle_deg)
    dx, dy = math.sin(angle), -math.cos(angle)
    # CSS: the line is just long enough that the corners get the pure colours.
    length = abs(width * dx) + abs(height * dy)
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * (dx / length)
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) * (dy / length)
    share = np.clip(x[None] + y[:, None] + 0.5, 0, 1)[..., None]
    start, end = (rgb(colour).astype(np.float32) for colour in gradient.gradient)
    # Half a level of ordered noise: eight bits show bands otherwise.
    noise = (np.add.outer(np.arange(height) * 5, np.arange(width) * 3) % 8 / 8 - 0.4375)[..., None]
    return np.clip(np.rint(start + share * (end - start) + noise), 0, 255).astype(np.uint8)


def _cover(picture: Image, width: int, height: int) -> Image:
    """The middle of the picture, resized until it covers the frame."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    crop_w = min(picture.shape[1], max(1, round(width / scale)))
    crop_h = min(picture.shape[0], max(1, round(height / scale)))
    left, top = (picture.shape[1] - crop_w) // 2, (picture.shape[0] - crop_h) // 2
    middle = picture[top : top + crop_h, left : left + crop_w]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(middle, (width, height), interpolation=way).astype(np.uint8, copy=False)


def shadow_reach(shadow: Shadow, size: float) -> tuple[float, float]:
    """How far, across and down, the shadow of a subject whose longer side is `size` is seen beyond
    the subject's box; the larger one of the two sides each.
    """
    blur = FADED * shadow.blur * size
    if shadow.kind is ShadowKind.CONTACT:
        return blur + (WIDER - 1) / 2 * size, blur + 0.3 * CONTACT_HEIGHT * size
    return blur + abs(shadow.dx) * size, blur + abs(shadow.dy) * size


def _standing(alpha: Image, box: Box) -> tuple[int, int]:
    """The first and the last column [px] of the subject's lowest part."""
    height = max(1, round(STANDING * (box[3] - box[1])))
    lowest = (alpha[box[3] - height : box[3], box[0] : box[2]] > 127).any(0)
    columns = np.nonzero(lowest)[0]
    if not len(columns):
        return box[0], box[2]
    return box[0] + int(columns[0]), box[0] + int(columns[-1]) + 1


def shade(shadow: Shadow, alpha: Image) -> NDArray[np.float32] | None:
    """How much light the shadow of a matte [H, W] uint8 takes, [H, W] in 0..1; None without a
    subject. It is drawn small and enlarged: nothing in it is sharp.
    """
    box = subject_box(alpha)
    if box is None:
        return None
    height, width = alpha.shape
    size = max(box[2] - box[0], box[3] - box[1])
    sigma = shadow.blur * size
    scale = min(1.0, 8 / max(sigma, 1e-3), 1.0)
    small = max(1, round(width * scale)), max(1, round(height * scale))
    if shadow.kind is ShadowKind.CONTACT:
        dark = np.zeros(small[::-1], np.float32)
        left, right = _standing(alpha, box)
        centre = (left + right) / 2 * scale, (box[3] - 0.2 * CONTACT_HEIGHT * size) * scale
        axes = (right - left) * WIDER * scale, CONTACT_HEIGHT * size * scale
        cv2.ellipse(dark, (centre, axes, 0), 1.0, -1)
    else:
        moved = np.array([[1, 0, shadow.dx * size], [0, 1, shadow.dy * size]]) * scale
        dark = cv2.warpAffine(
            cv2.resize(alpha, small, interpolation=cv2.INTER_AREA),
            np.array([[1, 0, moved[0, 2]], [0, 1, moved[1, 2]]]),
            small,
        ).astype(np.float32)
        dark /= 255
    if sigma * scale >= 0.2:
        dark = cv2.GaussianBlur(dark, (0, 0), sigma * scale).astype(np.float32)
    if small != (width, height):
        dark = cv2.resize(dark, (width, height), interpolation=cv2.INTER_LINEAR)
    return (dark * np.float32(shadow.opacity)).astype(np.float32, copy=False)
