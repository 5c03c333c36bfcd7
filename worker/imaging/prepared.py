"""A photo prepared as a network input, and the way back to the photo's size."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Alpha, Size


@dataclass(frozen=True)
class PreparedImage:
    """A network input, and the steps that lead back to the photo's size."""

    tensor: NDArray[np.float32]
    """[3, H, W], normalised RGB."""
    steps: tuple[tuple[str, Size], ...]
    """(`resize` | `padding`, size before) in the order in which they were applied."""
    content: float = 1.0
    """The share of the tensor's pixels that show the photo; the rest is padding."""

    @property
    def shape(self) -> Size:
        """Height and width of the tensor."""
        return self.tensor.shape[1], self.tensor.shape[2]


def restore(alpha: Alpha, steps: Sequence[tuple[str, Size]]) -> Alpha:
    """Resize and crop an alpha [H, W], 0..1, back through the steps to the first size."""
    for kind, (height, width) in reversed(steps):
        if kind == "padding":
            alpha = alpha[:height, :width]
        elif alpha.shape != (height, width):
            alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR).astype(
                np.float32
            )
    return alpha
