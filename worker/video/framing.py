"""One steady frame for a whole clip: a box that holds the subject in all frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Box

WINDOW = 7
"""Frames around each one that tell where its box should be."""

TOLERANCE = 0.08
"""A side that lies this share of the subject's size away from where its neighbours have it is
wrong, unless the subject moves so fast."""

STEPS = WINDOW // 2 + 1
"""... by this many times its usual step from frame to frame."""

Boxes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SteadyFrame:
    """The subject in a whole clip, in pixels of its frames."""

    box: Box
    """Holds the subject in all frames."""
    side_px: float
    """The subject's longer side, as most frames have it: the size of its shadow."""


def steady_frame(boxes: Sequence[Box | None]) -> SteadyFrame | None:
    """Box and size of the subject in all frames, robust to single bad mattes.

    `boxes`: the subject's box in each frame, None where there is no subject. None if no frame has a
    subject.
    """
    known: Boxes = np.array([box for box in boxes if box is not None], np.float64)
    if not len(known):
        return None
    believed = known[_is_believed(known)]
    if len(believed):
        known = believed
    left, top = known[:, :2].min(0)
    right, bottom = known[:, 2:].max(0)
    sides = np.maximum(known[:, 2] - known[:, 0], known[:, 3] - known[:, 1])
    return SteadyFrame((int(left), int(top), int(right), int(bottom)), float(np.median(sides)))


def _is_believed(boxes: Boxes) -> "NDArray[np.bool_]":
    """Whether each box lies where its neighbours say."""
    count = len(boxes)
    if count < 3:
        return np.ones(count, np.bool_)
    window = min(WINDOW, count)
    starts = np.clip(np.arange(count) - window // 2, 0, count - window)
    near = np.stack([boxes[start : start + window] for start in starts])  # [count, window, 4]
    middle = np.median(near, axis=1)
    step = np.median(np.abs(np.diff(near, axis=1)), axis=1)
    size = np.maximum(middle[:, 2] - middle[:, 0], middle[:, 3] - middle[:, 1])[:, None]
    far = np.abs(boxes - middle) > TOLERANCE * size + STEPS * step
    believed: NDArray[np.bool_] = ~far.any(axis=1)
    return believed
