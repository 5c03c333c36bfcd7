"""The array types of training. They name no dtype, because OpenCV's type stubs give none."""

from typing import Any

from numpy.typing import NDArray

Plane = NDArray[Any]
"""float32 [H, W], or [H, W, 3]; the range is the function's own."""

Alpha = NDArray[Any]
"""float32 [H, W]: opacity, 0 (background) to 1 (subject)."""

Colour = NDArray[Any]
"""float32 [H, W, 3]: RGB in 0..255."""
