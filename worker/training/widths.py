"""Layer sizes of the network, shared by network.py (PyTorch, training) and export.py (Paddle)."""

from typing import NamedTuple


class Block(NamedTuple):
    """One inverted bottleneck of EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946).

    The Lite variant uses ReLU6 and no squeeze-and-excitation.
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
"""The encoder's blocks: the first twelve of EfficientNet-Lite0's sixteen. The last four hold half
of all parameters and are left out."""

TAPS = (0, 2, 4, 10, 11)
"""Indices of the blocks whose outputs the decoder reads, at strides 2, 4, 8, 16, 32."""

CONTEXT = 96
"""Channels of the context block's output at stride 32."""

DECODER = (80, 48, 32, 16)
"""Channels of the decoder at strides 16, 8, 4, 2."""

DETAIL, HEAD = 8, 12
"""Channels at full size: of the branch that reads the image, and of the layer before the last."""
