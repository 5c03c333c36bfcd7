"""The array and geometry types of the worker, each defined once."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""Pixels, 0..255: RGB [H, W, 3], or one plane [H, W] such as a matte."""

Alpha = NDArray[np.float32]
"""Opacity [H, W], 0 (background) to 1 (subject)."""

Plane = NDArray[np.float32]
"""One float value a pixel, [H, W]; the range is the function's own."""

Mask = NDArray[np.uint8]
"""A yes or no for each pixel, [H, W]: 0, or 1 or 255."""

Size = tuple[int, int]
"""Height and width, in pixels."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels; right and bottom are exclusive."""
