"""The order in which `make test` runs the files, and which process runs them.

Three processes run the tests in parallel on two cores: tests wait for a quarter of their time. Each
file runs in one process. Files that share a running system all run in the same process, because
each process would start a system of its own, and a start takes twenty seconds of a core. The
longest files come first, so that none is left over at the end while the other processes have
nothing to do.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

OWN_SYSTEM: Sequence[str] = (
    "tests/acceptance/test_command_stack.py",
    "tests/acceptance/test_restore.py",
    "tests/acceptance/test_models.py",
)
"""Files of tests/acceptance that do not use its running system."""

TOGETHER: Sequence[str] = (
    "tests/browser/",
    "tests/acceptance/hostile/",
    "tests/acceptance/",
    "tests/integration/webhooks/",
)
"""Folders that one process runs as a whole: each has one running system for all its tests."""

ORDER: Sequence[str] = (
    "tests/acceptance/",
    "tests/browser/",
    *OWN_SYSTEM,
    "tests/faults/",
    "tests/acceptance/hostile/",
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
        file: str = super()._split_scope(nodeid)
        if file in OWN_SYSTEM:
            return file
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)
