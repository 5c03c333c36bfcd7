"""Motion between two neighbouring frames: dense optical flow, where it can be trusted, and cuts.

The flow is DIS (Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016). All of
it is at half the size of the mattes.
"""

import threading
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Image, Plane

Flow = NDArray[np.float32]
"""Displacement of each pixel [h, w, 2], x and y, in pixels of the same size."""

MAX_ROUND_TRIP_PX = 1.0
"""A flow is trusted where going there and back ends at most this far from the start."""

MAX_DIFFERENCE = 16
"""... and where the grey levels (of 255) at both ends differ by at most this much."""

CUT_TRUST = 0.3
"""A frame of which less than this share can be found in the frame before begins a new scene."""

CUT_DIFFERENCE = 12
"""... if its grey levels also differ by this much on average: a still, noisy frame is no cut."""

SOLID = 230
"""Alpha (of 255) from which a pixel shows the subject alone."""

BESIDE_PX = 10
"""Reach of a solid part's motion over the edge beside it."""

NEAR = 0.02
"""Least share of solid pixels around a pixel that counts as beside them."""

UNSEEN = 0.3
"""How far the motion beside an edge is trusted where the flow of the edge itself is not."""

LEAST_PX = 64
"""Shortest side of what OpenCV's DIS gets. It ends the process for sides of 20 pixels."""

FINEST_SCALE = 0
"""DIS goes down to this level of its pyramid: level 1 takes a quarter of its time, for a fifth
more flicker."""

_local = threading.local()


@dataclass(frozen=True, slots=True)
class Motion:
    """The way from one frame to another."""

    flow: Flow
    """Where each pixel of the first frame lies in the second, as displacement."""
    trust: Plane
    """0..1 for each pixel of the first frame: whether the flow can be trusted."""


def motion(first: Image, second: Image) -> tuple[Motion, Motion, bool]:
    """The motions from the first grey frame [h, w] uint8 to the second and back, and whether there
    is a cut between them.
    """
    there, back = _flow(first, second), _flow(second, first)
    forward = Motion(there, _trust(first, second, there, back))
    backward = Motion(back, _trust(second, first, back, there))
    differs = float(cv2.mean(cv2.absdiff(first, second))[0])
    cut = float(cv2.mean(backward.trust)[0]) < CUT_TRUST and differs > CUT_DIFFERENCE
    return forward, backward, cut


def of_subject(way: Motion, alpha: Image) -> Motion:
    """The motion of the subject's edge: that of its solid part beside it.

    An edge moves with the subject, but a flow that is measured there may follow the ground.
    `alpha` [h, w] uint8 belongs to the frame where the motion begins.
    """
    solid = (alpha > SOLID).astype(np.float32)
    known = cv2.multiply(solid, way.trust)
    x, y = cv2.split(way.flow)
    side = (2 * BESIDE_PX + 1, 2 * BESIDE_PX + 1)
    sums = (solid, known, cv2.multiply(x, known), cv2.multiply(y, known))
    near, mass, sum_x, sum_y = (cv2.blur(one, side) for one in sums)
    beside = (mass > NEAR) & (solid == 0)
    trust = mass / np.maximum(near, NEAR) * (UNSEEN + (1 - UNSEEN) * way.trust)
    share = np.maximum(mass, NEAR)
    flow = cv2.merge(
        [np.where(beside, sum_x / share, x), np.where(beside, sum_y / share, y)]
    ).astype(np.float32, copy=False)
    return Motion(flow, np.where(beside, trust, way.trust))


def warp(plane: Plane | Image, flow: Flow) -> Plane:
    """The plane of the second frame, moved to the places of the first."""
    x, y = _grid(plane.shape[0], plane.shape[1])
    moved = cv2.remap(
        plane, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return moved.astype(np.float32, copy=False)


def _flow(first: Image, second: Image) -> Flow:
    height, width = first.shape
    below, beside = max(0, LEAST_PX - height), max(0, LEAST_PX - width)
    if below or beside:
        first, second = (
            cv2.copyMakeBorder(one, 0, below, 0, beside, cv2.BORDER_REPLICATE).astype(np.uint8)
            for one in (first, second)
        )
    search = getattr(_local, "search", None)
    if search is None:
        # One object for each thread: it keeps its buffers.
        search = _local.search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        search.setVariationalRefinementIterations(0)  # half of the time, for 1 % more flicker
        search.setFinestScale(FINEST_SCALE)
    flow: Flow = search.calc(first, second, None)  # type: ignore[call-overload]
    return np.ascontiguousarray(flow[:height, :width])


def _trust(first: Image, second: Image, there: Flow, back: Flow) -> Plane:
    x, y = _grid(first.shape[0], first.shape[1])
    to_x, to_y = x + there[..., 0], y + there[..., 1]
    returned: Flow = cv2.remap(  # type: ignore[assignment]  # float32, like `back`
        back, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    apart = _squared(there + returned)
    # Sundaram, Brox and Keutzer, ECCV 2010: long ways may be less exact.
    same_place = apart < 0.01 * (_squared(there) + _squared(returned)) + MAX_ROUND_TRIP_PX**2
    seen = cv2.remap(second, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    same_look = cv2.absdiff(first, seen) < MAX_DIFFERENCE
    return (same_place & same_look).astype(np.float32)


def _squared(flow: Flow) -> Plane:
    squared: Plane = flow[..., 0] ** 2 + flow[..., 1] ** 2
    return squared


def _grid(height: int, width: int) -> tuple[Plane, Plane]:
    key = height, width
    kept = getattr(_local, "grid", None)
    if kept is None or kept[0] != key:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        kept = _local.grid = (key, np.ascontiguousarray(x), np.ascontiguousarray(y))
    return kept[1], kept[2]
