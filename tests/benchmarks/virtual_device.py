"""A device that takes a fixed time per image and needs no core, like a GPU."""

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.options import Profile
from tests.benchmarks.photos import subject
from worker.imaging.arrays import Image
from worker.imaging.prepared import PreparedImage
from worker.inference.shapes import ShapeGrid


class VirtualDevice:
    """A device that returns the drawn subject for every photo after a fixed time, one batch at a
    time.
    """

    def __init__(self, ms: float, lock: AbstractContextManager[Any] | None = None) -> None:
        """`lock`: of other processes that share the device."""
        self._ms = ms
        self._lock = lock or threading.Lock()
        self._grid = ShapeGrid.around(512)

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        """Prepare a photo like the predictor's `fast` profile."""
        return self._grid.prepare(image)

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        """Wait for the fixed time, then draw the alphas."""
        with self._lock:
            self.work(len(prepared))
        return [matte(one) for one in prepared]

    def work(self, images: int) -> None:
        """Take the fixed time of so many images."""
        time.sleep(self._ms * images / 1e3)


def matte(prepared: PreparedImage) -> NDArray[np.float32]:
    """The true alpha: the subject within the photo, 0 in the padding."""
    kind, size = prepared.steps[-1]
    alpha = np.zeros(prepared.shape, np.float32)
    height, width = size if kind == "padding" else prepared.shape
    alpha[:height, :width] = subject((height, width))
    return alpha
