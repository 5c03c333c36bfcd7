"""Waits for a condition with a deadline. Tests use it instead of sleeping."""

import time
from collections.abc import Callable
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
