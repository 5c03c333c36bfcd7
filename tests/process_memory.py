"""Measures the memory of another process as the kernel counts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1024**2


@dataclass
class Growth:
    """How far the peak memory of a process was above its memory before. Set when the block ends."""

    peak_bytes: int = 0


@contextmanager
def growth_of(pid: int) -> Iterator[Growth]:
    """Measure the block. It resets the kernel's peak of resident memory first, see proc(5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    growth, before = Growth(), _status_bytes(pid, "VmRSS")
    yield growth
    growth.peak_bytes = max(0, _status_bytes(pid, "VmHWM") - before)


def _status_bytes(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) * 1024
