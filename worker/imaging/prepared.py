"""A photo prepared as a network input, and the way back from the network's answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Alpha, Size


@dataclass(frozen=True)
class PreparedImage:
    """A network input and the way back from its output."""

    tensor: NDArray[np.float32]
    """[3, H, W], normalised RGB."""
    steps: tuple[tuple[str, Size], ...]
    """(`resize` | `padding`, the size before) in the order they were applied."""
    content: float = 1.0
    """The share of the tensor's pixels that show the photo; the rest is padding."""

    @property
    def shape(self) -> Size:
        """The tensor's height and width."""
        return self.tensor.shape[1], self.tensor.shape[2]


def restore(alpha: Alpha, steps: Sequence[tuple[str, Size]]) -> Alpha:
    """Take an alpha [H, W] back through the steps to the size before the first, in 0..1."""
    for kind, (height, width) in reversed(steps):
        if kind == "padding":
            alpha = alpha[:height, :width]
        elif alpha.shape != (height, width):
            alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR).astype(
                np.float32
            )
    return alpha
