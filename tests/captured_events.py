"""The events that a module logs, whatever other tests of the process configured before."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from structlog.testing import capture_logs

from shared.telemetry import get_logger


@contextmanager
def captured_events(module: ModuleType) -> Iterator[list[Any]]:
    """Give a list that each event of the module's `log` is added to.

    A logger keeps the processors of its first use. `capture_logs` changes the newest ones, so the
    module gets a new logger for as long.
    """
    kept = module.log
    vars(module)["log"] = get_logger(module.__name__)
    try:
        with capture_logs() as events:
            yield events
    finally:
        vars(module)["log"] = kept
