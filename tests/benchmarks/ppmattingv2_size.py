"""The widths and transforms of PP-MattingV2, for the networks of its size."""

from typing import Any

STAGES = (32, 64, 256, 512, 1024)
DECODER = (128, 96, 64, 32, 24)
CONTEXT = 320
POOLED = (2, 4, 6)

SURE = 12.0
"""Sharpness of the step between dark and bright: edges are a few pixels wide."""

TRANSFORMS: list[dict[str, Any]] = [
    {"type": "LoadImages"},
    {"type": "LimitShort", "max_short": 512},
    {"type": "ResizeToIntMult", "mult_int": 32},
    {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3},
]
"""The transforms of the published deploy.yaml."""
