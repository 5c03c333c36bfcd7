"""The order in which `make test` runs the files, and which process runs them.

Processes run the tests in parallel, each file in one of them. Files that share a running system
follow each other, because a process stops its system when it leaves their folder and starts another
when it comes back: each start costs twenty seconds of a core. The longest files come first, so that
none is left over at the end while the other processes have nothing to do.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = ("tests/browser/", "tests/acceptance/hostile/", "tests/integration/webhooks/")
"""Folders that one process runs as a whole: each has one running system for all its tests."""

ORDER: Sequence[str] = (
    "tests/browser/",
    # Files that start a system of their own.
    "tests/acceptance/test_command_stack.py",
    "tests/acceptance/test_restore.py",
    "tests/acceptance/test_models.py",
    "tests/faults/",
    # Files that share one.
    "tests/acceptance/test_command.py",
    "tests/acceptance/test_docs.py",
    "tests/acceptance/hostile/",
    "tests/acceptance/",
    "tests/integration/test_onnx_import.py",
    "tests/integration/test_predictor.py",
    "tests/integration/webhooks/",
    "tests/integration/",
    "tests/unit/test_photo_matrix.py",
    "tests/unit/",
)


def place(nodeid: str) -> int:
    """The place of a test in the run: that of the most exact entry of ORDER."""
    found = [entry for entry in ORDER if nodeid.startswith(entry)]
    return ORDER.index(max(found, key=len)) if found else len(ORDER)


class Scheduling(LoadFileScheduling):
    """pytest-xdist's scheduling by file, with the folders of TOGETHER as one file each."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # else files with many tests come first

    def _split_scope(self, nodeid: str) -> str:
        together = (folder for folder in TOGETHER if nodeid.startswith(folder))
        return next(together, super()._split_scope(nodeid))
