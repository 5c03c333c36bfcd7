"""Waiting for a condition, with a deadline: tests sleep for nothing else."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, timeout_s: float = 60) -> T:
    """The first true answer of `look`. Fails, naming `what` was waited for, after the time."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)
    return found
