"""The matte at the photo's size: enlarging the alpha, edge options, the subject's box."""

import cv2
import numpy as np

from shared.options import Options
from worker.imaging.arrays import Alpha, Box, Image
from worker.imaging.resample import shrink
from worker.imaging.samples import row_blocks

BLACK_POINT, WHITE_POINT = 0.04, 0.96
"""Alphas below and above these become 0 and 1. Networks rarely output exactly 0 or 1, and a haze
of 1 % is visible on a white page and doubles the size of a PNG."""

FIXED_ZERO, FIXED_ONE = 3_000, 233 * 255
"""Alpha 0, and the distance from there to alpha 1, in 16-bit fixed-point numbers. Stretched alphas
lie within -0.05 and 1.05. A step of the 8-bit matte is 233 of them."""

MIN_BOX_ALPHA = 25
"""Smallest alpha (of 255) of a pixel that counts towards the subject's box."""

BOX_SIDE_PX = 512
"""Longer side of the reduced matte on which the connected parts are found."""

MIN_PART_SHARE = 1e-3
"""A part smaller than this share of the largest part is a speck and does not widen the box."""

SOLID_ALPHA = 128
"""Smallest alpha (of 255) of a solid pixel. Pixels with less alpha around it form the edge."""


def full_size_alpha(alpha: Alpha, width: int, height: int, *, levels: bool = True) -> Image:
    """Enlarge an alpha [h, w] float32 in 0..1 to [height, width] uint8.

    `levels` applies BLACK_POINT and WHITE_POINT; the profile `exact` leaves the values unchanged.
    """
    black, white = (BLACK_POINT, WHITE_POINT) if levels else (0.0, 1.0)
    # Stretched alpha in 16 bits, above an offset that keeps negative values: a quarter of the time
    # that floats take, and at most 1 in 255 from them, on 1 pixel in 1,000 of the edge.
    stretched = (alpha - black) * (FIXED_ONE / (white - black)) + FIXED_ZERO
    fixed = np.rint(stretched).astype(np.uint16)
    if alpha.shape != (height, width):
        fixed = cv2.resize(fixed, (width, height), interpolation=cv2.INTER_LINEAR).astype(
            np.uint16, copy=False
        )
    np.maximum(fixed, np.uint16(FIXED_ZERO), out=fixed)
    scale = 255 / FIXED_ONE
    matte = cv2.convertScaleAbs(fixed, alpha=scale, beta=-FIXED_ZERO * scale)
    result: Image = matte.astype(np.uint8, copy=False)
    return result


def adjust_matte(matte: Image, options: Options, *, scale: float = 1.0) -> Image:
    """Apply the edge options to a matte [H, W] uint8.

    The order is roi, black point, erosion, threshold, feather, edge reach. `scale` is the number of
    matte pixels per photo pixel; it is below 1 when the photo was decoded at a reduced size.
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
        matte = _dilate_or_erode(matte, -options.erode_px * scale)
    if options.threshold is not None:
        _, hard = cv2.threshold(matte, 255 * options.threshold, 255, cv2.THRESH_BINARY)
        matte = hard.astype(np.uint8, copy=False)
    if options.feather_px * scale >= 0.1:
        # feather_px is the visible width of the fade, about two standard deviations.
        soft = cv2.GaussianBlur(matte, (0, 0), options.feather_px * scale / 2)
        matte = soft.astype(np.uint8, copy=False)
    if options.edge_reach is not None:
        matte = _clear_beyond_reach(matte, options.edge_reach)
    return matte


def reach_px(box: Box, share: float) -> float:
    """A share of the longer side of the subject's box [px]; at least 1.5, a sharp edge's width."""
    return max(1.5, share * max(box[2] - box[0], box[3] - box[1]))


def _clear_beyond_reach(matte: Image, share: float) -> Image:
    """Clear alpha that is further from solid pixels than the reach; fade over its outer half. A
    matte without solid pixels, such as one of clear glass, has no outline and stays as it is.
    """
    box = subject_box(matte)
    if box is None:
        return matte
    reach = reach_px(box, share)
    solid = cv2.inRange(matte, SOLID_ALPHA, 255)
    if not solid.any():
        return matte
    away = cv2.distanceTransform(cv2.bitwise_not(solid), cv2.DIST_L2, cv2.DIST_MASK_3)
    short = np.empty_like(matte)
    for rows in row_blocks(*matte.shape):
        kept = np.clip((reach - away[rows]) * np.float32(2 / reach), 0, 1)
        short[rows] = np.rint(matte[rows] * kept)
    return short


def _dilate_or_erode(matte: Image, pixels: float) -> Image:
    """Dilate the matte by a number of pixels, or erode it for a negative number.

    A fraction of a pixel is blended: half a pixel is the mean of two results.
    """
    work = cv2.dilate if pixels > 0 else cv2.erode
    whole = int(abs(pixels))
    if whole:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * whole + 1, 2 * whole + 1))
        matte = work(matte, kernel).astype(np.uint8, copy=False)
    if (rest := abs(pixels) - whole) > 0.05:
        further = work(matte, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
        matte = cv2.addWeighted(further, rest, matte, 1 - rest, 0).astype(np.uint8, copy=False)
    return matte


def subject_box(matte: Image) -> Box | None:
    """The bounding box of the subject in a matte [H, W] uint8, without specks.

    Returns None when there is no subject.
    """
    height, width = matte.shape
    scale = min(1.0, BOX_SIDE_PX / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = shrink(matte, size) >= MIN_BOX_ALPHA
    count, _, stats, _ = cv2.connectedComponentsWithStats(small.astype(np.uint8))
    if count < 2:
        return None
    parts = stats[1:]
    parts = parts[parts[:, cv2.CC_STAT_AREA] >= MIN_PART_SHARE * parts[:, cv2.CC_STAT_AREA].max()]
    low = parts[:, :2].min(0)
    high = (parts[:, :2] + parts[:, 2:4]).max(0)
    # The reduced box is exact to one cell; the full-size matte gives the exact pixel.
    left, top = (max(0, int((side - 1) / scale)) for side in low)
    right = min(width, int(np.ceil((high[0] + 1) / scale)))
    bottom = min(height, int(np.ceil((high[1] + 1) / scale)))
    inside = matte[top:bottom, left:right] >= MIN_BOX_ALPHA
    columns, rows = np.nonzero(inside.any(0))[0], np.nonzero(inside.any(1))[0]
    if not len(columns):
        return None
    return (
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
    )
