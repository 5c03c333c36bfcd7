"""Removal of specks and pinholes from the network's alpha, before it is enlarged.

A speck is a connected part that is tiny compared with the subject, or whose alpha is low
everywhere. A pinhole is a small gap inside the subject whose alpha is not near 0: the handle of a
mug, with an alpha near 0, stays open.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Alpha

PART_ALPHA, GAP_ALPHA = 0.1, 0.9
"""A pixel above PART_ALPHA belongs to a part; a pixel below GAP_ALPHA may belong to a gap."""

SPECK_SHARE = 0.005
"""A part with less than this share of the largest part's mass (sum of alpha) is a speck."""

SURE_ALPHA = 0.5
"""A part whose alpha nowhere exceeds this is a speck."""

PINHOLE_SHARE = 0.01
"""A gap larger than this share of the subject is not a pinhole; it may be glass."""

OPEN_ALPHA = 0.3
"""A gap that reaches an alpha below this is a real opening, unless it is as small as MAX_DOT_PX."""

MAX_DOT_PX = 6
"""Largest area [pixels] of a gap that is filled whatever its alpha."""


def despeckle(alpha: Alpha) -> Alpha:
    """Set specks to 0 and pinholes to 1 in an alpha [h, w] float32 in 0..1."""
    return _fill_pinholes(_remove_specks(alpha))


def _remove_specks(alpha: Alpha) -> Alpha:
    count, parts = cv2.connectedComponents((alpha > PART_ALPHA).astype(np.uint8))
    if count <= 2:  # the background and one part
        return alpha
    labels = parts.ravel()
    mass = np.bincount(labels, weights=alpha.ravel(), minlength=count)
    mass[0] = 0
    sure = np.bincount(labels[alpha.ravel() > SURE_ALPHA], minlength=count) > 0
    if not sure[1:].any():
        return alpha  # no part can be told apart as the subject
    specks = (mass < SPECK_SHARE * mass.max()) | ~sure
    specks[0] = False
    return np.where(specks[parts], np.float32(0), alpha)


def _fill_pinholes(alpha: Alpha) -> Alpha:
    count, gaps, stats, _ = cv2.connectedComponentsWithStats(
        (alpha < GAP_ALPHA).astype(np.uint8), connectivity=4
    )
    if count <= 2:  # the subject and the background around it
        return alpha
    area = stats[:, cv2.CC_STAT_AREA]
    small = area < PINHOLE_SHARE * float(alpha.sum())
    small[0] = False
    for edge in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
        small[edge] = False  # a gap that touches the image border is background
    if not small.any():
        return alpha
    inside = small[gaps]
    opened = np.bincount(gaps[inside & (alpha < OPEN_ALPHA)], minlength=count) > 0
    pinholes: NDArray[np.bool_] = small & (~opened | (area <= MAX_DOT_PX))
    return np.where(pinholes[gaps], np.float32(1), alpha)
