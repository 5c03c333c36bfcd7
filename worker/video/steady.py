"""Steady mattes: alpha is averaged along the motion, so that edges don't flicker.

It is averaged only where the network is unsure, and only with frames in which the same point was
found. The window reaches as far ahead as back, so the matte does not lag behind a movement. At a
cut it begins anew. Motion is measured between neighbouring frames only; a point is followed from
frame to frame. Measured by `python -m tests.benchmarks.flicker`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Alpha, Image
from worker.video.motion import LEAST_PX, Motion, motion, of_subject, warp
from worker.video.stages import in_order

REACH = 4
"""Frames before and behind that each matte is averaged with."""

UNSURE_LOW, UNSURE_HIGH = 6, 249
"""An alpha (of 255) from the one to the other is unsure."""

BAND_PX = 2
"""The averaged band reaches this far beyond the unsure pixels."""

FADING = np.float32(0.85)
"""Weight of a neighbour relative to that of the one before it: ways grow less exact."""

ROOM_PX = 12
"""Motion is measured this far around the subject, at half the size."""

ROW = 128
"""Points are kept in rows of this length: OpenCV is slow with one long column."""

HALF = np.float32(0.5)

Part = tuple[slice, slice]
Floats = NDArray[np.float32]

Ways = Floats
"""For each pixel at half the size: x and y of its way to the other frame in pixels of the full
size, and 0..1 whether it can be trusted. [h, w, 3]"""

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
class _Seen(Generic[T]):
    """A frame, and what motion is measured on: both at half the size of its matte, uint8."""

    sight: Sight[T]
    grey: Image
    alpha: Image
    unsure: Image
    """255 where alpha is unsure, else 0; at its own size."""


@dataclass(slots=True)
class _Linked(Generic[T]):
    """A frame and the motion between it and the frame before; None at a cut."""

    seen: _Seen[T]
    there: Ways | None = None
    """From the frame before to this one."""
    back: Ways | None = None
    """From this one to the frame before."""


@dataclass(frozen=True, slots=True)
class _Window(Generic[T]):
    """A frame among its neighbours."""

    near: list[_Linked[T]]
    at: int

    def earlier(self) -> Iterator[tuple[Ways, Sight[T]]]:
        """The way to each frame before, from the one behind it; as far as the last cut."""
        for place in range(self.at, max(0, self.at - REACH), -1):
            back = self.near[place].back
            if back is None:
                return
            yield back, self.near[place - 1].seen.sight

    def later(self) -> Iterator[tuple[Ways, Sight[T]]]:
        """The way to each frame behind, from the one before it; as far as the next cut."""
        for one in self.near[self.at + 1 : self.at + 1 + REACH]:
            if one.there is None:
                return
            yield one.there, one.seen.sight

    def unsure(self) -> Image:
        """255 where this frame or one beside it is unsure."""
        here, found = self.near[self.at], self.near[self.at].seen.unsure
        if self.at and here.back is not None:
            found = found | self.near[self.at - 1].seen.unsure
        if self.at + 1 < len(self.near) and self.near[self.at + 1].there is not None:
            found = found | self.near[self.at + 1].seen.unsure
        return found


def steadied(
    sights: Iterable[Sight[T]], threads: Executor, *, depth: int, average: bool = True
) -> Iterator[Sight[T]]:
    """Average the alphas of a stream of frames. Each comes out REACH frames later.

    `depth`: frames whose motion is measured at a time. Without `average` only cuts and unsteadiness
    are found.
    """
    pairs = _with_earlier(in_order(sights, _seen, threads, depth))
    linked = in_order(pairs, _link, threads, depth)
    if average:
        yield from in_order(_windows(linked), _averaged, threads, depth)
    else:
        yield from (one.seen.sight for one in linked)


def _windows(linked: Iterable[_Linked[T]]) -> Iterator[_Window[T]]:
    """Each frame among its neighbours, as far as REACH on both sides."""
    near: deque[_Linked[T]] = deque(maxlen=2 * REACH + 1)
    source = iter(linked)
    near.extend(islice(source, REACH + 1))
    at = 0
    while at < len(near):
        yield _Window(list(near), at)
        following = next(source, None)
        if following is None:
            at += 1
        else:
            if len(near) < 2 * REACH + 1:
                at += 1
            near.append(following)


def _seen(sight: Sight[T]) -> _Seen[T]:
    alpha = cv2.convertScaleAbs(sight.alpha, alpha=255)
    height, width = alpha.shape
    half = max(1, width // 2), max(1, height // 2)
    grey, small = (
        cv2.resize(one, half, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        for one in (sight.grey, alpha)
    )
    unsure = cv2.inRange(alpha, np.array(UNSURE_LOW), np.array(UNSURE_HIGH))
    return _Seen(sight, grey, small, unsure.astype(np.uint8, copy=False))


def _with_earlier(frames: Iterable[_Seen[T]]) -> Iterator[tuple[_Seen[T], _Seen[T] | None]]:
    before = None
    for one in frames:
        yield one, before
        before = one


def _link(pair: tuple[_Seen[T], _Seen[T] | None]) -> _Linked[T]:
    """Measure the motion between a frame and the one before."""
    seen, before = pair
    if before is None:
        return _Linked(seen)
    part = _part(seen.alpha, before.alpha)
    there, back, cut = motion(
        np.ascontiguousarray(before.grey[part]), np.ascontiguousarray(seen.grey[part])
    )
    seen.sight.is_cut = cut
    if cut:
        return _Linked(seen)
    here, earlier = (np.ascontiguousarray(one.alpha[part]) for one in (seen, before))
    back, there = of_subject(back, here), of_subject(there, earlier)
    seen.sight.unsteady = _unsteadiness(here, earlier, back)
    size = seen.alpha.shape
    return _Linked(seen, _ways(there, part, size), _ways(back, part, size))


def _part(first: Image, second: Image) -> Part:
    """Where one of two frames shows something of the subject, with room for motion. It is all that
    smoothing needs, and often a third of the frame.
    """
    seen = (np.maximum(first, second) >= UNSURE_LOW).astype(np.uint8)
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


def _ways(way: Motion, part: Part, size: tuple[int, ...]) -> Ways:
    """A motion of a part as ways of the whole frame; outside of it nothing is trusted."""
    ways = np.zeros((*size, 3), np.float32)
    ways[part] = cv2.merge([*cv2.split(way.flow * 2), way.trust])
    return ways


def _unsteadiness(alpha: Image, before: Image, back: Motion) -> float:
    moved = warp(before, back.flow)
    size = max(float(alpha.sum()), float(before.sum()), 0.002 * 255 * alpha.size)
    return float((np.abs(alpha - moved) * back.trust).sum()) / size


def _averaged(window: _Window[T]) -> Sight[T]:
    """The frame with the average of its alpha and its neighbours', in the unsure band."""
    sight = window.near[window.at].seen.sight
    unsure = window.unsure()
    y, x = np.nonzero(cv2.dilate(unsure, _square(BAND_PX + 1)))
    if not y.size:
        return sight
    own = _in_rows(sight.alpha[y, x])
    total, mass = own.copy(), np.ones_like(own)
    for way in (window.earlier(), window.later()):
        at_x, at_y = _in_rows(x), _in_rows(y)
        trust = np.ones_like(own)
        for ways, other in way:
            step = _at(ways, (at_x - HALF) * HALF, (at_y - HALF) * HALF)
            at_x, at_y = at_x + step[..., 0], at_y + step[..., 1]
            trust *= FADING * step[..., 2]
            moved = _sharp_at(other.alpha, at_x, at_y)
            # A neighbour that differs by the whole range counts for half.
            weight = trust / (1 + np.square(moved - own))
            total += weight * moved
            mass += weight
    band = cv2.blur(cv2.dilate(unsure, _square(BAND_PX)), (3, 3))
    change = (total / mass - own).reshape(-1)[: y.size]
    alpha = sight.alpha.copy()
    alpha[y, x] += band[y, x] / np.float32(255) * change
    return Sight(alpha, sight.grey, sight.frame, sight.is_cut, sight.unsteady)


def _at(values: Floats, x: Floats, y: Floats) -> Floats:
    """The values at these places; between pixels they are interpolated."""
    found = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.astype(np.float32, copy=False)


def _sharp_at(alpha: Alpha, x: Floats, y: Floats) -> Floats:
    """Alpha at these places, by cubic interpolation: a linear one widens edges."""
    found = cv2.remap(alpha, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(found, 0, 1, out=found).astype(np.float32, copy=False)


def _in_rows(values: "NDArray[Any]") -> Floats:
    """The values as float32 [n, ROW], with zeros at the end."""
    rows = np.zeros((-(-values.size // ROW), ROW), np.float32)
    rows.reshape(-1)[: values.size] = values
    return rows


def _square(reach_px: int) -> Image:
    return np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)
