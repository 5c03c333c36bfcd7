"""The network's size, which its two definitions share (network.py trains, export.py runs)."""

from typing import NamedTuple


class Block(NamedTuple):
    """One inverted bottleneck of EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; the Lite
    variant has ReLU6 and no squeeze-and-excitation).
    """

    kernel: int
    stride: int
    expand: int
    outputs: int


STEM = 32
BLOCKS = (
    Block(3, 1, 1, 16),
    Block(3, 2, 6, 24),
    Block(3, 1, 6, 24),
    Block(5, 2, 6, 40),
    Block(5, 1, 6, 40),
    Block(3, 2, 6, 80),
    Block(3, 1, 6, 80),
    Block(3, 1, 6, 80),
    Block(5, 1, 6, 112),
    Block(5, 1, 6, 112),
    Block(5, 1, 6, 112),
    Block(5, 2, 6, 192),
)
"""The first twelve of sixteen: the last four hold half of all parameters."""

TAPS = (0, 2, 4, 10, 11)
"""Blocks whose outputs the decoder reads: strides 2, 4, 8, 16, 32."""

CONTEXT = 96
"""Channels at stride 32, behind the encoder."""

DECODER = (80, 48, 32, 16)
"""Channels of the decoder at strides 16, 8, 4, 2."""

DETAIL, HEAD = 8, 12
"""Channels at full size: of what is read from the image itself, and of the last layer but one."""
