"""Alpha at the photo's size: from the network's, with what a customer wants done to its edge."""

import cv2
import numpy as np

from shared.options import Options
from worker.imaging.arrays import Alpha, Box, Image

BLACK_POINT, WHITE_POINT = 0.04, 0.96
"""Alphas beyond them become 0 and 1: a network is seldom quite sure, and a haze of 1 % is seen on
a white page and doubles a PNG."""

BOX_ALPHA = 25
"""A pixel of at least this alpha (of 255) counts as the subject where its box is looked for."""

BOX_SIDE_PX = 512
"""Specks are told from the subject at this size."""

SPECK = 1e-3
"""A part smaller than this share of the largest one does not widen the box."""

SOLID = 128
"""A pixel of at least this alpha (of 255) is the subject, and what is around it is its edge."""


def full_size_alpha(alpha: Alpha, width: int, height: int, *, levels: bool = True) -> Image:
    """An alpha [h, w] in 0..1 as [height, width] uint8, with black and white point applied unless
    `levels` is false (the `exact` profile gives what the network gave).
    """
    if alpha.shape != (height, width):
        alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR).astype(
            np.float32, copy=False
        )
    black, white = (BLACK_POINT, WHITE_POINT) if levels else (0.0, 1.0)
    scale = 255 / (white - black)
    # alpha · scale - black · scale, rounded and saturated, in one pass.
    return cv2.convertScaleAbs(
        np.maximum(alpha, np.float32(black)), alpha=scale, beta=-black * scale
    ).astype(np.uint8, copy=False)


def adjust(matte: Image, options: Options, *, scale: float = 1.0) -> Image:
    """The matte [H, W] uint8 with the options' roi, black point, erosion, threshold, feather and
    reach, in this order.
    `scale`: pixels of the matte for one of the photo, where it was decoded smaller.
    """
    height, width = matte.shape
    if options.roi is not None:
        left, top, right, bottom = options.roi
        inside = np.zeros_like(matte)
        part = np.s_[
            round(top * height) : round(bottom * height), round(left * width) : round(right * width)
        ]
        inside[part] = matte[part]
        matte = inside
    if options.black_point:
        values = (np.arange(256) / 255 - options.black_point) / (1 - options.black_point)
        stretch = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
        matte = cv2.LUT(matte, stretch).astype(np.uint8, copy=False)
    if options.erode_px:
        matte = _grown(matte, -options.erode_px * scale)
    if options.threshold is not None:
        _, hard = cv2.threshold(matte, 255 * options.threshold, 255, cv2.THRESH_BINARY)
        matte = hard.astype(np.uint8, copy=False)
    if options.feather_px * scale >= 0.1:
        # Two standard deviations span most of a Gaussian's fade.
        soft = cv2.GaussianBlur(matte, (0, 0), options.feather_px * scale / 2)
        matte = soft.astype(np.uint8, copy=False)
    if options.edge_reach is not None:
        matte = _within_reach(matte, options.edge_reach)
    return matte


def reach_px(box: Box, share: float) -> float:
    """A share of the longer side of the subject's box, in pixels; at least 1.5, an edge's own."""
    return max(1.5, share * max(box[2] - box[0], box[3] - box[1]))


def _within_reach(matte: Image, share: float) -> Image:
    """Clear what is further from solid pixels than the reach, fading over its outer half."""
    box = subject_box(matte)
    if box is None:
        return matte
    reach = reach_px(box, share)
    solid = cv2.inRange(matte, SOLID, 255)
    away = cv2.distanceTransform(cv2.bitwise_not(solid), cv2.DIST_L2, cv2.DIST_MASK_3)
    kept = np.clip((reach - away) * np.float32(2 / reach), 0, 1)
    short: Image = np.rint(matte * kept).astype(np.uint8)
    return short


def _grown(matte: Image, pixels: float) -> Image:
    """Grey erosion (below 0) or dilation by whole and fractional pixels: the fraction is mixed."""
    work = cv2.dilate if pixels > 0 else cv2.erode
    whole = int(abs(pixels))
    if whole:
        # Two passes over rows and columns; corners become square, which no one sees at 1–3 pixels.
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * whole + 1, 2 * whole + 1))
        matte = work(matte, kernel).astype(np.uint8, copy=False)
    if (rest := abs(pixels) - whole) > 0.05:
        further = work(matte, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
        matte = cv2.addWeighted(further, rest, matte, 1 - rest, 0).astype(np.uint8, copy=False)
    return matte


def subject_box(matte: Image) -> Box | None:
    """The box of the subject of a matte [H, W] uint8, specks left out; None when there is none."""
    height, width = matte.shape
    scale = min(1.0, BOX_SIDE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(matte, size, interpolation=cv2.INTER_AREA) >= BOX_ALPHA
    count, _, stats, _ = cv2.connectedComponentsWithStats(small.astype(np.uint8))
    if count < 2:
        return None
    parts = stats[1:]
    parts = parts[parts[:, cv2.CC_STAT_AREA] >= SPECK * parts[:, cv2.CC_STAT_AREA].max()]
    low = parts[:, :2].min(0)
    high = (parts[:, :2] + parts[:, 2:4]).max(0)
    # Back at full size the cells' rims are looked at pixel by pixel.
    left, top = (max(0, int((side - 1) / scale)) for side in low)
    right = min(width, int(np.ceil((high[0] + 1) / scale)))
    bottom = min(height, int(np.ceil((high[1] + 1) / scale)))
    inside = matte[top:bottom, left:right] >= BOX_ALPHA
    columns, rows = np.nonzero(inside.any(0))[0], np.nonzero(inside.any(1))[0]
    if not len(columns):
        return None
    return (
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
    )
