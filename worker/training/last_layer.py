"""The last convolution in the form in which it is exported: a patch of pixels at a time.

A convolution with one output channel uses one of a vector's 16 lanes: at 384 × 384 it took 6 ms
with its bias. The same numbers come from a convolution that steps by a patch of 4 × 4 pixels and
has a channel for each of them, followed by `pixel_shuffle`: 2 ms. Each of its kernels is the
trained one, shifted to its pixel, in a frame of zeros.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

PATCH = 4
"""Side of a patch in pixels. The network's strides make both sides of its input multiples of 32."""

KERNEL = PATCH + 2
"""Side of a kernel: a patch and the neighbours that a 3 × 3 kernel reads."""

Array = NDArray[Any]


def by_patches(weight: Array, bias: Array) -> tuple[Array, Array]:
    """Weight [1, C, 3, 3] and bias [1] → weight [16, C, 6, 6] and bias [16] for a stride of 4."""
    whole = np.zeros((PATCH**2, weight.shape[1], KERNEL, KERNEL), weight.dtype)
    for row in range(PATCH):
        for column in range(PATCH):
            whole[row * PATCH + column, :, row : row + 3, column : column + 3] = weight[0]
    return whole, np.repeat(bias, PATCH**2)


def by_pixels(weight: Array, bias: Array) -> tuple[Array, Array]:
    """The inverse of `by_patches`."""
    return weight[:1, :, :3, :3].copy(), bias[:1].copy()
