"""Combines the alphas of several teacher networks into one label with loss weights."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.arrays import Alpha

EDGE_SHARE = 0.012
"""Tolerance for the place of an edge, as a share of the longer side. A teacher that works at 320
pixels is no more precise.
"""

SUBJECT, GROUND = 0.6, 0.4
"""A teacher's alpha above SUBJECT counts as subject, below GROUND as background."""

OUTVOTED = 0.6
"""Loss weight of a pixel where the others outvote the finest teacher: their edges are coarse."""

WHITE_LEVELS = 248
"""Pixels at least this bright are the background of a packshot."""

SPECK_SHARE = 0.01
"""Areas smaller than this share of the largest one are noise."""


class Label(NamedTuple):
    """A label for one photo.

    alpha [H, W] is float32 in 0..1. `worth` [H, W] in 0..1 is each pixel's loss weight; 0 excludes
    the pixel from training.
    """

    alpha: Alpha
    worth: Alpha

    def doubt(self) -> float:
        """The disputed area divided by the subject's area. 1 if there is no subject."""
        area = float((self.alpha > 0.5).sum())
        return min(1.0, float((self.worth < 0.5).sum()) / area) if area else 1.0


def agreed(fine: Alpha, others: list[Alpha]) -> Label:
    """Combine the finest teacher with the others.

    Where the others confirm the finest teacher, within the width of an edge, its alpha is the
    label. Where all of them contradict it, their answer is the label. All other pixels get the
    weight 0.
    """
    reach = _kernel(fine.shape, EDGE_SHARE)
    confirmed = np.zeros(fine.shape, bool)
    denied = np.ones(fine.shape, bool)
    for other in others:
        highest, lowest = cv2.dilate(other, reach), cv2.erode(other, reach)
        clear = (fine > SUBJECT) | (fine < GROUND)
        confirms = np.where(fine > SUBJECT, highest > SUBJECT, lowest < GROUND)
        confirmed |= np.where(clear, confirms, (highest > GROUND) & (lowest < SUBJECT))
        denied &= np.where(fine > 0.5, highest < GROUND, lowest > SUBJECT)
    if len(others) < 2:
        denied[:] = False
    alpha = np.where(denied, np.mean(others, 0), fine)
    alpha = np.where(denied, np.clip(alpha * 2 - 0.5, 0, 1), alpha)
    worth = np.where(denied, OUTVOTED, confirmed & ~_beside(denied, reach))
    return Label(alpha.astype(np.float32), worth.astype(np.float32))


def keyed(image: NDArray[np.uint8], teachers: list[Alpha]) -> Label:
    """Label an RGB photo on pure white.

    White that is connected with the border is background. At edges, alpha is the pixel's position
    between white and the colour inside. The teachers decide about enclosed white areas and about
    soft shadows.
    """
    darkest = image.min(2)
    ground = _reached_from_border(darkest >= WHITE_LEVELS)
    ground = ~_without_specks(~ground)
    body = cv2.morphologyEx((~ground).astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    alpha = _edge_alpha(image, body > 0)
    enclosed = (darkest >= WHITE_LEVELS) & ~ground
    worth = np.ones(alpha.shape, np.float32)
    if not teachers:  # an enclosed hole and a white print look the same
        return Label(alpha, np.where(enclosed, 0, worth).astype(np.float32))
    reach = _kernel(alpha.shape, EDGE_SHARE)
    yes = np.min([cv2.dilate(one, reach) for one in teachers], 0) > SUBJECT
    no = np.max([cv2.erode(one, reach) for one in teachers], 0) < GROUND
    no_at_all = np.max([cv2.dilate(one, reach) for one in teachers], 0) < GROUND
    pale = (darkest > 150) & (image.max(2) - darkest < 24)  # a shadow has no colour of its own
    alpha = np.where((enclosed & no) | (pale & no_at_all), 0, alpha)
    worth = np.where(enclosed & ~no & ~yes, 0, worth)
    worth = np.where((alpha > 0.5) & no_at_all & (darkest > 150), 0, worth)
    sure = np.min([cv2.erode(one, reach) for one in teachers], 0) > SUBJECT
    worth = np.where((alpha < 0.5) & sure, 0, worth)
    return Label(alpha.astype(np.float32), worth.astype(np.float32))


def without_shadow(alpha: Alpha) -> Alpha:
    """Remove the soft shadow from a cut-out's alpha [H, W]: half transparent areas that touch
    nothing solid.
    """
    solid = cv2.dilate((alpha > 0.9).astype(np.float32), _kernel(alpha.shape, 0.004))
    return (alpha * solid).astype(np.float32)


def _edge_alpha(image: NDArray[np.uint8], body: NDArray[np.bool_]) -> Alpha:
    """Alpha of an object on white.

    It is 1 inside. Near the outline it is the pixel's position between white and the colour inside.
    """
    inner = cv2.erode(body.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
    weight = cv2.blur(inner, (11, 11))
    colour = cv2.blur(image.astype(np.float32) * inner[..., None], (11, 11))
    inside = colour / np.maximum(weight, 1e-3)[..., None]
    depth = np.maximum(255 - inside, 0)
    along = ((255 - image.astype(np.float32)) * depth).sum(2) / np.maximum((depth**2).sum(2), 1)
    plain = cv2.blur(body.astype(np.float32), (3, 3))
    legible = (weight > 0) & (depth.max(2) > 40)
    edge = np.where(legible, np.clip(along, 0, 1), plain)
    alpha = np.where(
        inner > 0,
        1,
        np.where(cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, edge, 0),
    )
    return alpha.astype(np.float32)


def _reached_from_border(white: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask [H, W] that touch the border."""
    _count, parts = cv2.connectedComponents(white.astype(np.uint8), connectivity=4)
    frame = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    reached: NDArray[np.bool_] = np.isin(parts, frame[frame > 0])
    return reached


def _without_specks(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Remove parts [H, W] that are far smaller than the largest one: JPEG noise on white."""
    _count, parts, stats, _ = cv2.connectedComponentsWithStats(body.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    large: NDArray[np.bool_] = (areas > SPECK_SHARE * areas.max())[parts]
    return large


def _beside(area: NDArray[np.bool_], reach: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The surroundings of an area, without the area: there the edges of two teachers meet."""
    wide: NDArray[np.bool_] = cv2.dilate(area.astype(np.uint8), reach) > 0
    return wide & ~area


def _kernel(shape: tuple[int, ...], share: float) -> NDArray[np.uint8]:
    size = 2 * max(1, round(share * max(shape))) + 1
    return np.ones((size, size), np.uint8)
