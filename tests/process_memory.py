"""The memory of another process, as the kernel counts it: what it takes now, and took at most."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1024**2


@dataclass
class Growth:
    """What a process took at most above what it had before, in bytes; set when the block ends."""

    peak_bytes: int = 0


@contextmanager
def growth_of(pid: int) -> Iterator[Growth]:
    """Measure the block: proc(5), the high-water mark of resident memory, begun anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    growth, before = Growth(), _status_bytes(pid, "VmRSS")
    yield growth
    growth.peak_bytes = max(0, _status_bytes(pid, "VmHWM") - before)


def _status_bytes(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) * 1024
