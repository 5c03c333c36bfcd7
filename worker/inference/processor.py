"""What this machine's processor is, and what it can do."""

import contextlib
import platform
from functools import cache
from pathlib import Path

DESCRIPTIVE = ("model name", "flags", "Features", "CPU part")
"""The lines of /proc/cpuinfo that tell which kernels oneDNN may choose."""

BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
"""Instructions that multiply bf16 numbers. Without one of them oneDNN converts to fp32 and back."""


@cache
def description() -> tuple[str, ...]:
    """The processor's name and its features, as the kernel lists them."""
    found = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            if name.strip() in DESCRIPTIVE:
                found.append(value.strip())
    return tuple(found)


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for bf16."""
    return not BF16_FEATURES.isdisjoint(" ".join(description()).split())
