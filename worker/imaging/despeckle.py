"""Specks and pinholes taken out of the network's alpha, before it is enlarged.

A speck is what stands apart from the subject and is tiny against it, or what the network never was
sure of. A pinhole is a small gap within the subject which the network was not sure of either: the
handle of a mug, which it is sure of, stays open.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Alpha

PART_ALPHA, GAP_ALPHA = 0.1, 0.9
"""Above the first a pixel belongs to some part; below the second it may belong to a gap."""

SPECK_SHARE = 0.005
"""Parts of less than this share of the largest one's mass are specks."""

SURE = 0.5
"""So are parts that nowhere come to this."""

PINHOLE_SHARE = 0.01
"""Gaps larger than this share of the subject are left: glass, say."""

OPEN = 0.3
"""A gap with an alpha below this is a real one, unless it is as small as `DOT_PX`."""

DOT_PX = 6


def despeckled(alpha: Alpha) -> Alpha:
    """The alpha [h, w] in 0..1 without specks and pinholes."""
    return _without_pinholes(_without_specks(alpha))


def _without_specks(alpha: Alpha) -> Alpha:
    count, parts = cv2.connectedComponents((alpha > PART_ALPHA).astype(np.uint8))
    if count <= 2:  # the ground and one part
        return alpha
    labels = parts.ravel()
    mass = np.bincount(labels, weights=alpha.ravel(), minlength=count)
    mass[0] = 0
    sure = np.bincount(labels[alpha.ravel() > SURE], minlength=count) > 0
    if not sure[1:].any():
        return alpha  # nothing is sure: no part is more the subject than another
    specks = (mass < SPECK_SHARE * mass.max()) | ~sure
    specks[0] = False
    return np.where(specks[parts], np.float32(0), alpha)


def _without_pinholes(alpha: Alpha) -> Alpha:
    count, gaps, stats, _ = cv2.connectedComponentsWithStats(
        (alpha < GAP_ALPHA).astype(np.uint8), connectivity=4
    )
    if count <= 2:  # the subject and what is around it
        return alpha
    area = stats[:, cv2.CC_STAT_AREA]
    small = area < PINHOLE_SHARE * float(alpha.sum())
    small[0] = False
    for edge in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
        small[edge] = False  # what reaches the frame is the ground
    if not small.any():
        return alpha
    inside = small[gaps]
    opened = np.bincount(gaps[inside & (alpha < OPEN)], minlength=count) > 0
    pinholes: NDArray[np.bool_] = small & (~opened | (area <= DOT_PX))
    return np.where(pinholes[gaps], np.float32(1), alpha)
