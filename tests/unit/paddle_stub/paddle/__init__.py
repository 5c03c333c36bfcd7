"""Stands for a Paddle with devices that no test machine has: it computes a simple alpha, and errs,
crashes and takes parts of the graph as the variable PADDLE_STUB says (JSON).

| key | what |
|---|---|
| `error` | by device or `tensorrt`: what is added to every alpha |
| `subgraphs` | operators of each part that TensorRT takes |
| `without` | what it was not built with: `cuda`, `tensorrt`, `xpu`, `npu` |
| `crash` | a plan that aborts the process: `cuda`, `tensorrt` |
| `builds` | a file that gets a line for each engine that is built |
"""

import json
import os
from typing import Any

SPIN_MS = os.environ.get("KMP_BLOCKTIME")
"""What its threads were told when it was loaded."""


def asked() -> dict[str, Any]:
    """What this process is to be like."""
    found: dict[str, Any] = json.loads(os.environ.get("PADDLE_STUB", "{}"))
    return found


def is_compiled_with_cuda() -> bool:
    return "cuda" not in asked().get("without", [])


def is_compiled_with_xpu() -> bool:
    return "xpu" not in asked().get("without", [])


def is_compiled_with_custom_device(name: str) -> bool:
    return name not in asked().get("without", [])
