"""The orientation of a clip's frames, as the container's display matrix says."""

import struct
from dataclasses import dataclass

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame

from worker.imaging.arrays import Image

MATRIX_BYTES = 36
"""Nine 32-bit numbers, row by row (ISO 14496-12, 6.2.2)."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """What to do with a decoded frame, in this order: transpose, then flip both ways."""

    swaps_sides: bool = False
    flips_left_right: bool = False
    flips_upside_down: bool = False

    def upright(self, pixels: Image) -> Image:
        """Turn [H, W, C] pixels upright."""
        if self.swaps_sides:
            pixels = pixels.transpose(1, 0, 2)
        if self.flips_left_right:
            pixels = pixels[:, ::-1]
        if self.flips_upside_down:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation that comes with a decoded frame; upright if it has none, or one that is no
    multiple of 90°.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData) or data.buffer_size < MATRIX_BYTES:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:MATRIX_BYTES])
    # x' = a·x + c·y and y' = b·x + d·y, for the picture that is shown.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)
