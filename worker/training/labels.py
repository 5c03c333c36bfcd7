"""One label from several teachers: an alpha, and how much each of its pixels is worth."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]
"""float32 [H, W] in 0..1."""

EDGE_SHARE = 0.012
"""Of the longer side: a teacher that answers at 320 pixels places outlines no better than this."""

SUBJECT, GROUND = 0.6, 0.4
"""Above and below which a teacher is taken to have said yes and no."""

OUTVOTED = 0.6
"""Worth of a pixel at which the finest teacher is outvoted: the others' edges are coarse."""

WHITE_LEVELS = 248
"""From here on a packshot's ground is white."""

SPECK_SHARE = 0.01
"""Of the largest part: what is smaller is noise."""


class Label(NamedTuple):
    """alpha and worth, float32 [H, W] in 0..1; worth 0 is a pixel that teaches nothing."""

    alpha: Plane
    worth: Plane

    def doubt(self) -> float:
        """How much of the subject's area is in dispute; 1 where there is no subject."""
        area = float((self.alpha > 0.5).sum())
        return min(1.0, float((self.worth < 0.5).sum()) / area) if area else 1.0


def agreed(fine: Plane, others: list[Plane]) -> Label:
    """The finest teacher's alpha where the others confirm it, within the width of an edge; their
    answer where all of them contradict it; else nothing.
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


def keyed(image: NDArray[np.uint8], teachers: list[Plane]) -> Label:
    """The label of an RGB photo on pure white. White that the border reaches is ground; an edge's
    alpha follows from how far its colour is from white to the colour inside. The teachers decide
    about white that the subject encloses, and about the soft shadow below.
    """
    darkest = image.min(2)
    ground = _reached_from_border(darkest >= WHITE_LEVELS)
    ground = ~_without_specks(~ground)
    body = cv2.morphologyEx((~ground).astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    alpha = _edge_alpha(image, body > 0)
    enclosed = (darkest >= WHITE_LEVELS) & ~ground
    worth = np.ones(alpha.shape, np.float32)
    if not teachers:  # a hole and a white print look alike
        return Label(alpha, np.where(enclosed, 0, worth).astype(np.float32))
    reach = _kernel(alpha.shape, EDGE_SHARE)
    yes = np.min([cv2.dilate(one, reach) for one in teachers], 0) > SUBJECT
    no = np.max([cv2.erode(one, reach) for one in teachers], 0) < GROUND
    no_at_all = np.max([cv2.dilate(one, reach) for one in teachers], 0) < GROUND
    pale = (darkest > 150) & (image.max(2) - darkest < 24)  # a shadow has no colour
    alpha = np.where((enclosed & no) | (pale & no_at_all), 0, alpha)
    worth = np.where(enclosed & ~no & ~yes, 0, worth)
    worth = np.where((alpha > 0.5) & no_at_all & (darkest > 150), 0, worth)
    sure = np.min([cv2.erode(one, reach) for one in teachers], 0) > SUBJECT
    worth = np.where((alpha < 0.5) & sure, 0, worth)
    return Label(alpha.astype(np.float32), worth.astype(np.float32))


def without_shadow(alpha: Plane) -> Plane:
    """A cut-out's alpha [H, W] without the soft shadow that is part of it: what is half transparent
    away from anything solid.
    """
    solid = cv2.dilate((alpha > 0.9).astype(np.float32), _kernel(alpha.shape, 0.004))
    return (alpha * solid).astype(np.float32)


def _edge_alpha(image: NDArray[np.uint8], body: NDArray[np.bool_]) -> Plane:
    """Alpha of what stands before white: inside 1; near the outline by how far each pixel's colour
    is on the way from white to the colour inside.
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
    """The parts of a mask [H, W] that touch the frame."""
    _count, parts = cv2.connectedComponents(white.astype(np.uint8), connectivity=4)
    frame = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    reached: NDArray[np.bool_] = np.isin(parts, frame[frame > 0])
    return reached


def _without_specks(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the parts [H, W] that are far smaller than the largest: a JPEG's noise on white."""
    _count, parts, stats, _ = cv2.connectedComponentsWithStats(body.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    large: NDArray[np.bool_] = (areas > SPECK_SHARE * areas.max())[parts]
    return large


def _beside(area: NDArray[np.bool_], reach: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Around an area, but not within: there two teachers' edges meet."""
    wide: NDArray[np.bool_] = cv2.dilate(area.astype(np.uint8), reach) > 0
    return wide & ~area


def _kernel(shape: tuple[int, ...], share: float) -> NDArray[np.uint8]:
    size = 2 * max(1, round(share * max(shape))) + 1
    return np.ones((size, size), np.uint8)
