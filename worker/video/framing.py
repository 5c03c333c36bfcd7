"""One steady frame for a whole clip: a box that holds the subject in all frames."""

from collections.abc import Sequence

import numpy as np

from worker.imaging.arrays import Box

WINDOW = 5
"""A side of the box counts only as far out as the middle one of this many frames in a row. So one
or two bad mattes don't widen the frame."""


def steady_box(boxes: Sequence[Box | None]) -> Box | None:
    """The box that holds the subject in all frames, robust to single bad mattes.

    `boxes`: the subject's box in each frame, None where there is no subject. None if no frame has a
    subject.
    """
    known = np.array([box for box in boxes if box is not None], np.int64)
    if not len(known):
        return None
    window = min(WINDOW, len(known) - 1 + len(known) % 2)
    if window > 2:
        runs = np.lib.stride_tricks.sliding_window_view(known, window, axis=0)
        known = np.median(runs, axis=-1).astype(np.int64)
    left, top = known[:, :2].min(0)
    right, bottom = known[:, 2:].max(0)
    return int(left), int(top), int(right), int(bottom)
