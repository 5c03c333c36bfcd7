"""Waits for a condition with a deadline. Tests use it instead of sleeping."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def eventually(
    look: Callable[[], T | None], what: str, timeout_s: float = 180, *, every_s: float = 0.02
) -> T:
    """Call `look` until it returns something true, and return that. Fails after `timeout_s`; the
    message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(every_s)
    return found


def is_dead(process: Path) -> bool:
    """Whether a process, given by its folder in /proc, has ended, or waits for somebody to read its
    status.
    """
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
