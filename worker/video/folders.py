"""Folders for the files of clips: those of killed workers are removed, and their size is bounded.

A worker holds a lock on each of its folders (flock(2)), which ends with the process. So another
worker knows which ones nobody uses, also in another container that shares the disk.
"""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from shared.errors import ClipNeedsRoomError
from shared.telemetry import get_logger

log = get_logger(__name__)

PREFIX = "matting-clip-"

LOCK = ".lock"

FRESH_S = 60.0
"""A folder that is younger may not be locked yet."""


class ClipFolder:
    """A folder for files of a clip, locked by this process. A context manager."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock_fd = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)

    def __enter__(self) -> "ClipFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder with its files."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)


def remove_abandoned() -> int:
    """Remove the folders of workers that were killed; returns how many. Call it at start."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another worker removes it, or it is another user's
            if time.time() - folder.stat().st_mtime > FRESH_S and _is_abandoned(folder):
                shutil.rmtree(folder)
                removed += 1
    if removed:
        log.info("clip-folders-removed", folders=removed)
    return removed


def _is_abandoned(folder: Path) -> bool:
    lock_fd = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock_fd)
    return True


def check_room(folders: list[Path], most_bytes: int) -> None:
    """Raise ClipNeedsRoomError if the files in these folders have more than `most_bytes`."""
    used = 0
    for folder in folders:
        for path, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):
                    used += os.stat(os.path.join(path, name)).st_size
    if used > most_bytes:
        raise ClipNeedsRoomError(
            f"The clip and its results take more than {most_bytes:,} bytes on the worker's disk"
        )
