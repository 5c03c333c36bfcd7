"""Runs the command `matting` like a user, and lists the processes that it leaves behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.forked_command import program

MATTING = str(Path(sys.executable).parent / "matting")


def matting(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program(), *arguments], capture_output=True, text=True, cwd=cwd, timeout=240, check=False
    )


def processes_below(marker: str) -> list[str]:
    """The command lines of processes that contain the marker, without this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if marker.encode() in line:
                found.append(entry.name)
    return found


@contextmanager
def running(*arguments: str, cwd: Path, **env: str) -> "Iterator[subprocess.Popen[str]]":
    """Run the command in the background. It is killed if the test fails before it has ended."""
    child = subprocess.Popen(
        [MATTING, *arguments],
        cwd=cwd,
        env=os.environ | env,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            yield child
        finally:
            child.kill()
