"""Steady mattes: alpha is averaged along the motion, so that edges don't flicker.

It is averaged only where the network is unsure, and only with frames in which the same point was
found. The window reaches as far ahead as back, so the matte does not lag behind a movement. At a
cut it begins anew. Measured by `python -m tests.benchmarks.flicker`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import cv2
import numpy as np

from worker.imaging.arrays import Alpha, Image, Plane
from worker.video.motion import LEAST_PX, Motion, motion, of_subject, warp
from worker.video.stages import in_order

REACH = 4
"""Frames before and behind that each matte is averaged with."""

UNSURE_LOW, UNSURE_HIGH = 0.02, 0.98
"""An alpha between them is unsure."""

BAND_PX = 2
"""The averaged band reaches this far beyond the unsure pixels."""

FAR_ALPHA = 1.0
"""A difference from the frame's own alpha by which a neighbour's counts for half."""

ROOM_PX = 24
"""Motion is measured this far around the subject."""

Part = tuple[slice, slice]

T = TypeVar("T")


@dataclass(slots=True)
class Sight(Generic[T]):
    """A frame's matte and its grey picture, both at the network's size."""

    alpha: Alpha
    grey: Image
    frame: T
    """Whatever belongs to the frame."""
    is_cut: bool = False
    """Whether a new scene begins with it."""
    unsteady: float = 0.0
    """How far alpha differs from that of the frame before along the motion, relative to the
    subject's size."""


@dataclass(slots=True)
class _Linked(Generic[T]):
    """A frame and the motion between it and the frames before, nearest first."""

    sight: Sight[T]
    links: list[tuple[Motion, Motion]]
    """(from the earlier frame to this one, from this one to the earlier)."""


def steadied(
    sights: Iterable[Sight[T]], threads: Executor, *, depth: int, average: bool = True
) -> Iterator[Sight[T]]:
    """Average the alphas of a stream of frames. Each comes out REACH frames later.

    `depth`: frames whose motion is measured at a time. Without `average` only cuts and unsteadiness
    are found.
    """
    reach = REACH if average else 1
    linked = in_order(_with_earlier(sights, reach), _link, threads, depth)
    near: deque[_Linked[T]] = deque(maxlen=2 * reach + 1)
    source = iter(linked)
    near.extend(islice(source, reach + 1))
    at = 0
    while at < len(near):
        sight = near[at].sight
        result = _averaged(list(near), at) if average else sight.alpha
        yield Sight(result, sight.grey, sight.frame, sight.is_cut, sight.unsteady)
        following = next(source, None)
        if following is None:
            at += 1
        else:
            if len(near) < 2 * reach + 1:
                at += 1
            near.append(following)


def _with_earlier(sights: Iterable[Sight[T]], reach: int) -> Iterator[list[Sight[T]]]:
    """Each frame with up to `reach` frames before it, nearest first."""
    recent: deque[Sight[T]] = deque(maxlen=reach)
    for sight in sights:
        yield [sight, *recent]
        recent.appendleft(sight)


def _link(sights: list[Sight[T]]) -> _Linked[T]:
    """Measure the motion between a frame and those before, as far as the last cut."""
    sight, *earlier = sights
    links: list[tuple[Motion, Motion]] = []
    for distance, other in enumerate(earlier, 1):
        part = _part(sight.alpha, other.alpha)
        there, back, cut = motion(
            np.ascontiguousarray(other.grey[part]), np.ascontiguousarray(sight.grey[part])
        )
        there, back = (_whole(one, part, sight.grey.shape) for one in (there, back))
        if distance == 1:
            sight.is_cut = cut
            if not cut:
                sight.unsteady = _unsteadiness(sight, other, back)
        if cut:
            break
        links.append((there, back))
    return _Linked(sight, links)


def _part(first: Alpha, second: Alpha) -> Part:
    """Where one of two frames shows something of the subject, with room for motion. It is all that
    smoothing needs, and often a third of the frame.
    """
    seen = (np.maximum(first, second) > UNSURE_LOW).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(seen)
    if not width:
        return np.s_[:, :]
    return _span(top, height, seen.shape[0]), _span(left, width, seen.shape[1])


def _span(start: int, size: int, limit: int) -> slice:
    """A range with room on both sides, not too short for measuring motion."""
    begin, end = max(0, start - ROOM_PX), min(limit, start + size + ROOM_PX)
    if end - begin < LEAST_PX:
        begin = max(0, min(begin, limit - LEAST_PX))
        end = min(limit, begin + LEAST_PX)
    return slice(begin, end)


def _whole(way: Motion, part: Part, size: tuple[int, ...]) -> Motion:
    """A motion of a part as one of the whole frame, where nothing else moves and is trusted."""
    if way.trust.shape == size:
        return way
    flow, trust = np.zeros((*size, 2), np.float32), np.zeros(size, np.float32)
    flow[part], trust[part] = way.flow, way.trust
    return Motion(flow, trust)


def _unsteadiness(sight: Sight[T], before: Sight[T], back: Motion) -> float:
    back = of_subject(back, sight.alpha)
    moved = warp(before.alpha, back.flow)
    size = max(float(sight.alpha.sum()), float(before.alpha.sum()), 0.002 * moved.size)
    return float((np.abs(sight.alpha - moved) * back.trust).sum()) / size


def _averaged(near: list[_Linked[T]], at: int) -> Alpha:
    """The average alpha of the frame `at` and its neighbours, in the unsure band."""
    own = near[at].sight.alpha
    total = own.copy()
    mass = np.ones_like(own)
    unsure = _is_unsure(own)
    for neighbour, measured in _neighbours(near, at):
        way = of_subject(measured, own)
        moved = warp(neighbour, way.flow)
        weight = way.trust / (1 + np.square((moved - own) / FAR_ALPHA))
        total += weight * moved
        mass += weight
        unsure |= _is_unsure(moved) & (way.trust > 0)
    band = cv2.dilate(unsure.astype(np.uint8), np.ones((2 * BAND_PX + 1,) * 2, np.uint8))
    share = cv2.blur(band.astype(np.float32), (3, 3))
    return (own + share * (total / mass - own)).astype(np.float32, copy=False)


def _neighbours(near: list[_Linked[T]], at: int) -> Iterator[tuple[Alpha, Motion]]:
    """The alphas of the neighbours of the same scene, and the way from the frame to each."""
    for distance, (_, back) in enumerate(near[at].links[:REACH], 1):
        if at - distance >= 0:
            yield near[at - distance].sight.alpha, back
    for distance in range(1, REACH + 1):
        if at + distance >= len(near):
            return
        later = near[at + distance]
        if later.sight.is_cut or len(later.links) < distance:
            return
        yield later.sight.alpha, later.links[distance - 1][0]


def _is_unsure(alpha: Plane) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    return (alpha > UNSURE_LOW) & (alpha < UNSURE_HIGH)
