"""The subject that is meant: the neighbourhood of its box, and the parts of an alpha that belong to
it.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.subject import Point
from worker.imaging.arrays import Alpha, Box, Image

MARGIN = 0.12
"""What the network sees around a box, as a share of the box's side: an outline needs background."""

TOLERANCE = 0.05
"""How far the subject may reach beyond its box, as a share of the box's side. People draw boxes a
little too small."""

SOLID = 0.5
"""Parts are connected areas with an alpha above this; paler pixels belong to the nearest part."""

MAX_FRAME_PX = 2_048
"""Longest side of a whole photo's alpha, when the alpha of a neighbourhood is put into it."""

REACH = 0.03
"""How far from a part a point may lie, as a share of the longer side."""

EROSIONS = 33
"""Steps in which a part is eroded to divide it."""

Shares = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of the photo."""


def neighbourhood(box: Shares, height: int, width: int) -> Box:
    """The pixels of a photo that the network sees for this box: the box and MARGIN around it."""
    left, top, right, bottom = _grown(box, MARGIN)
    first_column = min(width - 1, int(left * width))
    first_row = min(height - 1, int(top * height))
    last_column = max(first_column + 1, min(width, int(np.ceil(right * width))))
    last_row = max(first_row + 1, min(height, int(np.ceil(bottom * height))))
    return first_column, first_row, last_column, last_row


def crop(image: Image, box: Box) -> Image:
    """These pixels of an image [H, W, 3]."""
    left, top, right, bottom = box
    return np.ascontiguousarray(image[top:bottom, left:right])


def within_frame(alpha: Alpha, box: Box, height: int, width: int) -> Alpha:
    """The alpha of a neighbourhood as the alpha of the whole photo (height × width pixels), which
    is 0 elsewhere, as fine as the given one and at most MAX_FRAME_PX long.
    """
    left, top, right, bottom = box
    finest = max(alpha.shape[0] / (bottom - top), alpha.shape[1] / (right - left))
    scale = min(1.0, finest, MAX_FRAME_PX / max(height, width))
    frame = np.zeros((max(1, round(height * scale)), max(1, round(width * scale))), np.float32)
    rows = _scaled(top, bottom, height, frame.shape[0])
    columns = _scaled(left, right, width, frame.shape[1])
    size = columns.stop - columns.start, rows.stop - rows.start
    frame[rows, columns] = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    return frame


def inside_box(alpha: Alpha, box: Shares) -> Alpha:
    """Of an alpha [h, w] only the parts that lie mostly within the box (fractions of this alpha),
    and nothing that is farther outside than TOLERANCE. If no part does, all of it within the box.
    """
    height, width = alpha.shape
    allowed = np.zeros(alpha.shape, bool)
    allowed[_inside(_grown(box, TOLERANCE), height, width)] = True
    exact = np.zeros(alpha.shape, bool)
    exact[_inside(box, height, width)] = True
    parts, nearest = _parts(alpha)
    if parts > 1:
        mass = np.bincount(nearest.ravel(), alpha.ravel(), minlength=parts + 1)
        mass_inside = np.bincount(nearest[exact], alpha[exact], minlength=parts + 1)
        kept = mass_inside >= 0.5 * mass
        if kept[1:].any():
            allowed &= kept[nearest]
    return np.where(allowed, alpha, np.float32(0))


def at_points(alpha: Alpha, points: Sequence[Point]) -> Alpha:
    """Of an alpha [h, w] only the parts that the points mean.

    Points with 1 choose parts; without such a point all parts are chosen. Points with 0 take parts
    away. A part with both kinds is divided where it is narrow between them. If no part is chosen,
    the result is 0 everywhere.
    """
    count, nearest = _parts(alpha)
    if count == 0:
        return np.zeros_like(alpha)
    meant = {label for x, y, what in points if what and (label := _part_at(alpha, nearest, x, y))}
    others = {
        label for x, y, what in points if not what and (label := _part_at(alpha, nearest, x, y))
    }
    asked = any(what for _, _, what in points)
    chosen = np.zeros(count + 1, bool)
    for label in range(1, count + 1):
        chosen[label] = label in meant or not asked
        chosen[label] &= label not in others or label in meant
    mask = chosen[nearest]
    for label in meant & others:
        mask &= ~_divided(alpha, nearest == label, points)
    return np.where(mask, alpha, np.float32(0))


def fit(alpha: Alpha, points: Sequence[Point]) -> float:
    """The share of the points that agree with this alpha [h, w]. A point with 1 agrees if a part
    lies there. A point with 0 agrees if no part lies there, or only one that no point with 1 lies
    on.
    """
    count, nearest = _parts(alpha)
    if count == 0:
        return 0.0
    found = [(what, _part_at(alpha, nearest, x, y)) for x, y, what in points]
    meant = {label for what, label in found if what}
    good = [label is not None if what else label is None or label not in meant
            for what, label in found]  # fmt: skip
    return float(np.mean(good))


def _parts(alpha: Alpha) -> tuple[int, NDArray[np.int32]]:
    """The number of parts, and for each pixel the part that is nearest, from 1."""
    count, labels = cv2.connectedComponents((alpha > SOLID).astype(np.uint8))
    if count < 3:  # one part at most: all pixels are nearest to it
        return count - 1, np.full(alpha.shape, count - 1, np.int32)
    return count - 1, _nearest(labels.astype(np.int32))


def _nearest(seeds: NDArray[np.int32]) -> NDArray[np.int32]:
    """For each pixel the nearest value of `seeds` [h, w] that is not 0."""
    _, pixels = cv2.distanceTransformWithLabels(
        (seeds == 0).astype(np.uint8),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    # The label of a pixel stands for one pixel of the seeds, whose value is known.
    value = np.zeros(int(pixels.max()) + 1, np.int32)
    value[pixels[seeds > 0]] = seeds[seeds > 0]
    return value[pixels]


def _part_at(alpha: Alpha, nearest: NDArray[np.int32], x: float, y: float) -> int | None:
    """The part at a point, or within REACH of it."""
    height, width = alpha.shape
    row, column = min(height - 1, int(y * height)), min(width - 1, int(x * width))
    reach = max(1, round(REACH * max(height, width)))
    rows = slice(max(0, row - reach), row + reach + 1)
    columns = slice(max(0, column - reach), column + reach + 1)
    if not (alpha[rows, columns] > SOLID).any():
        return None
    return int(nearest[row, column])


def _divided(alpha: Alpha, part: NDArray[np.bool_], points: Sequence[Point]) -> NDArray[np.bool_]:
    """The pixels of a part that belong to points with 0.

    The part is eroded until no piece holds both kinds of points; then each pixel belongs to the
    nearest piece that holds a point.
    """
    height, width = alpha.shape
    solid = ((alpha > SOLID) & part).astype(np.uint8)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, cv2.DIST_MASK_5)
    places = [
        (min(height - 1, int(y * height)), min(width - 1, int(x * width)), 1 if what else 2)
        for x, y, what in points
    ]
    places = [one for one in places if part[one[:2]]]
    seeds = np.zeros(alpha.shape, np.int32)
    for least in np.linspace(0, float(depth.max()), EROSIONS):
        _, pieces = cv2.connectedComponents((depth > least).astype(np.uint8))
        sides = [{int(pieces[row, column]) for row, column, kind in places if kind == one} - {0}
                 for one in (1, 2)]  # fmt: skip
        if sides[0].isdisjoint(sides[1]):
            for kind, own in enumerate(sides, 1):
                seeds[np.isin(pieces, list(own))] = kind
            break
    for row, column, kind in places:
        seeds[row, column] = kind
    others: NDArray[np.bool_] = part & (_nearest(seeds) == 2)
    return others


def _grown(box: Shares, share: float) -> Shares:
    left, top, right, bottom = box
    across, down = share * (right - left), share * (bottom - top)
    return max(0, left - across), max(0, top - down), min(1, right + across), min(1, bottom + down)


def _inside(box: Shares, height: int, width: int) -> tuple[slice, slice]:
    left, top, right, bottom = box
    rows = slice(int(top * height), max(int(top * height) + 1, int(np.ceil(bottom * height))))
    columns = slice(int(left * width), max(int(left * width) + 1, int(np.ceil(right * width))))
    return rows, columns


def _scaled(start: int, stop: int, of: int, to: int) -> slice:
    """The pixels from start to stop of a side of `of` pixels, scaled to a side of `to` pixels; at
    least one pixel.
    """
    first = min(to - 1, round(start * to / of))
    return slice(first, max(first + 1, min(to, round(stop * to / of))))
