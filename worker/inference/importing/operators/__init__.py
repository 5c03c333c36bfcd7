"""How each ONNX operator is built with Paddle: one module a family, all entered into one table.

What each operator means was read in ONNX's operator specification (docs/Operators.md), opsets 9 to
22. Importing this package fills `walk.OPERATORS`.
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
