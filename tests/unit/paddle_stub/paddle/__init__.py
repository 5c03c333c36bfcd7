"""A stand-in for Paddle with accelerators that no test machine has.

It computes a simple alpha. The variable PADDLE_STUB (JSON) sets its faults:

| key | meaning |
|---|---|
| `error` | by device or `tensorrt`, alone or with ` pixels`: a number that is added to alphas |
| `inputs` | number of inputs of every program |
| `rank` | number of dimensions of every answer |
| `subgraphs` | number of operators in each part of the graph that TensorRT runs |
| `without` | features that this Paddle was not built with: `cuda`, `tensorrt`, `xpu`, `npu` |
| `refuses` | `tensorrt pixels`: what it can't open |
| `mixes` | programs for pixels give every photo of a batch the first one's alpha |
| `crash` | plans that abort the process: `cuda`, `tensorrt` |
| `hangs` | a device or `tensorrt`: plans that never answer |
| `builds` | a file that gets a line for each engine that is built |
| `programs` | a file that gets the process's id for each program that is written |
"""

import json
import os
from types import SimpleNamespace
from typing import Any

SPIN_MS = os.environ.get("KMP_BLOCKTIME")
"""The thread setting at the time of its import."""


def asked() -> dict[str, Any]:
    """The faults that PADDLE_STUB sets."""
    found: dict[str, Any] = json.loads(os.environ.get("PADDLE_STUB", "{}"))
    return found


def note(key: str, line: str) -> None:
    """Write a line to the file that this key names, if it names one."""
    if file := asked().get(key):
        with open(file, "a") as noted:
            noted.write(f"{line}\n")


device = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 2))


def is_compiled_with_cuda() -> bool:
    return "cuda" not in asked().get("without", [])


def is_compiled_with_xpu() -> bool:
    return "xpu" not in asked().get("without", [])


def is_compiled_with_custom_device(name: str) -> bool:
    return name not in asked().get("without", [])
