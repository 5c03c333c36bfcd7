"""The handlers that build each ONNX operator with Paddle, one module per family.

Importing this package registers all of them in `walk.OPERATORS`. They follow ONNX's operator
specification (docs/Operators.md), opsets 9 to 22.
"""

from worker.inference.importing.operators import (
    convolution,
    elementwise,
    indexing,
    logic,
    normalising,
    products,
    reducing,
    reshaping,
    sampling,
)

__all__ = [
    "convolution",
    "elementwise",
    "indexing",
    "logic",
    "normalising",
    "products",
    "reducing",
    "reshaping",
    "sampling",
]
