"""A photo prepared as a network input, and the way back to the photo's size."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from worker.imaging.arrays import Alpha, Image, Size


@dataclass(frozen=True)
class PreparedImage:
    """A network input, and the steps that lead back to the photo's size."""

    image: Image
    """[H, W, 3] uint8 RGB, with padding. It is normalised for a device that needs it, not before:
    pixels take a quarter of the memory.
    """
    steps: tuple[tuple[str, Size], ...]
    """(`resize` | `padding`, size before) in the order in which they were applied."""
    content: float = 1.0
    """The share of the pixels that show the photo; the rest is padding."""

    @property
    def shape(self) -> Size:
        """Height and width of the input."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def content_size(self) -> Size:
        """Height and width of the input without the padding that was added last."""
        if self.steps and self.steps[-1][0] == "padding":
            return self.steps[-1][1]
        return self.shape

    def photo(self) -> Image:
        """The pixels [h, w, 3] without padding."""
        height, width = self.content_size
        return self.image[:height, :width]

    def without_padding(self, alpha: Alpha) -> Alpha:
        """The part of this input's alpha that shows the photo."""
        height, width = self.content_size
        return alpha[:height, :width]


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
