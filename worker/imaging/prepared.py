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
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """tensor · gain + offset, by channel, is the photo in -1..1."""

    @property
    def shape(self) -> Size:
        """Height and width of the tensor."""
        return self.tensor.shape[1], self.tensor.shape[2]

    @property
    def content_size(self) -> Size:
        """Height and width of the tensor without the padding that was added last."""
        if self.steps and self.steps[-1][0] == "padding":
            return self.steps[-1][1]
        return self.shape

    def pixels(self) -> NDArray[np.float32]:
        """The photo [3, h, w] in -1..1, without padding, whatever the network's normalisation."""
        height, width = self.content_size
        content = self.tensor[:, :height, :width]
        if self.gain == (1.0, 1.0, 1.0) and self.offset == (0.0, 0.0, 0.0):
            return content
        gain, offset = (
            np.array(one, np.float32)[:, None, None] for one in (self.gain, self.offset)
        )
        return content * gain + offset

    def levels(self) -> NDArray[np.uint8]:
        """The pixels that the network sees: [3, H, W], 0..255, with padding. Normalising them gives
        the tensor again.
        """
        levels = np.empty(self.tensor.shape, np.uint8)
        for channel, gain, offset in zip(range(3), self.gain, self.offset, strict=True):
            plane = cv2.convertScaleAbs(
                self.tensor[channel], alpha=127.5 * gain, beta=127.5 * (offset + 1)
            )
            levels[channel] = plane
        return levels

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
