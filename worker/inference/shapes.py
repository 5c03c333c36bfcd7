"""The input shapes of the network: a small grid of aspect ratios, all warmed up at start.

A photo is squeezed into the nearest shape if that distorts it by at most `MAX_BEND` (PaddleSeg's
ResizeToIntMult distorts as much). A photo longer or wider than the grid is padded by repeating its
edge pixels, because networks mistake a bright bar for a subject more often than more wall.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from worker.imaging.arrays import Image, Size
from worker.imaging.prepared import PreparedImage
from worker.imaging.resample import shrink

STRIDE = 32
"""Sides are multiples of it, because the deepest features of these networks are at 1/32 scale."""

RATIOS = (0.5625, 0.6667, 0.75, 0.866, 1.0)
"""Width divided by height for the upright half of the grid, from 9:16 over 2:3 and 3:4 to square;
neighbours are at most two distortions apart. Each shape costs 17 MB of oneDNN primitives a stream
(80 MB with PP-MattingV2). Nine shapes waste 0.4 % of the pixels on padding, fifteen 0.15 %.
"""

MAX_BEND = 1.08
"""The largest factor by which one side may be stretched relative to the other."""


@dataclass(frozen=True)
class ShapeGrid:
    """The input shapes of the `fast` profile."""

    shapes: tuple[Size, ...]
    squeeze: bool = False
    """Squeeze photos of any ratio into their shape, for networks trained that way; otherwise pad.
    """

    @classmethod
    def around(cls, side: int) -> "ShapeGrid":
        """A grid whose shapes have about side² pixels."""
        ratios = [*RATIOS, *(1 / ratio for ratio in RATIOS)]
        return cls(tuple(sorted({_nearest(side, ratio) for ratio in ratios})))

    def choose(self, size: Size) -> tuple[Size, Size]:
        """The shape for a photo of this size, and the size of the photo within it."""
        ratio = size[1] / size[0]
        shape = min(self.shapes, key=lambda shape: abs(math.log(shape[1] / shape[0] / ratio)))
        bend = (shape[1] / shape[0]) / ratio
        if self.squeeze or max(bend, 1 / bend) <= MAX_BEND:
            return shape, shape
        scale = min(shape[0] / size[0], shape[1] / size[1])
        inner = (
            min(shape[0], max(1, round(size[0] * scale))),
            min(shape[1], max(1, round(size[1] * scale))),
        )
        return shape, inner

    def prepare(self, image: Image) -> PreparedImage:
        """A photo [H, W, 3] uint8 RGB resized and padded to its shape."""
        size = image.shape[0], image.shape[1]
        shape, inner = self.choose(size)
        steps: list[tuple[str, Size]] = [("resize", size)]
        image = shrink(image, inner)
        content = 1.0
        if inner != shape:
            steps.append(("padding", inner))
            content = inner[0] * inner[1] / (shape[0] * shape[1])
            image = cv2.copyMakeBorder(
                image, 0, shape[0] - inner[0], 0, shape[1] - inner[1], cv2.BORDER_REPLICATE
            ).astype(np.uint8)
        return PreparedImage(image, tuple(steps), content)


def _nearest(side: int, ratio: float) -> Size:
    """The multiples of the stride nearest to the ratio, with about side² pixels."""
    ideal = side / math.sqrt(ratio)
    candidates = []
    for rows in range(max(1, int(ideal / STRIDE) - 1), int(ideal / STRIDE) + 3):
        height = rows * STRIDE
        width = max(STRIDE, round(height * ratio / STRIDE) * STRIDE)
        bend = abs(math.log(width / height / ratio))
        area = abs(math.log(width * height / side**2))
        candidates.append((2 * bend + 0.5 * area, (height, width)))
    return min(candidates)[1]
