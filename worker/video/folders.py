"""Folders for the files of clips: those of killed workers are removed, and their size is bounded.

A worker holds a lock on each of its folders (flock(2)), which ends with the process. So another
worker knows which ones nobody uses, also in another container that shares the disk.
"""

import fcntl
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ClipNeedsRoomError
from shared.telemetry import get_logger

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

log = get_logger(__name__)

PREFIX = "matting-clip-"

LOCK = ".lock"

NO_ROOM = "The clip and its results take more than MATTING_CLIP_DISK_BYTES on the worker's disk"

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
        """Remove the folder with its files, the lock last: what a kill leaves can be removed."""
        with suppress(OSError):
            for one in self.path.iterdir():
                if one.is_dir():
                    shutil.rmtree(one, ignore_errors=True)
                elif one.name != LOCK:
                    one.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)


def remove_abandoned() -> int:
    """Remove the folders of workers that were killed; returns how many. Call it at start."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another worker removes it, or it is another user's
            if time.time() - folder.stat().st_mtime <= FRESH_S:
                continue
            if not (folder / LOCK).exists():
                folder.rmdir()  # only if it is empty: it was made, and not locked yet
                removed += 1
            elif _is_abandoned(folder):
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


class BoundedFile(io.BufferedWriter):
    """A file for writing that takes a number of bytes. Raises ClipNeedsRoomError."""

    def __init__(
        self, path: Path, most_bytes: int, on_write: Callable[[], None] = lambda: None
    ) -> None:
        """`on_write`: called before each piece; what it raises ends the writing."""
        super().__init__(io.FileIO(path, "w"))
        self._left_bytes = most_bytes
        self._on_write = on_write

    def write(self, data: "Buffer", /) -> int:
        """Write bytes."""
        self._on_write()
        self._left_bytes -= memoryview(data).nbytes
        if self._left_bytes < 0:
            raise ClipNeedsRoomError(NO_ROOM)
        return super().write(data)


def bytes_of(*places: Path) -> int:
    """The bytes of files, and of all files in folders."""
    used = 0
    for place in places:
        if place.is_file():
            used += place.stat().st_size
        for path, _, names in os.walk(place):
            for name in names:
                with suppress(FileNotFoundError):
                    used += os.stat(os.path.join(path, name)).st_size
    return used


def check_room(used_bytes: int, most_bytes: int) -> None:
    """Raise ClipNeedsRoomError if the files of a clip take more than `most_bytes`."""
    if used_bytes > most_bytes:
        raise ClipNeedsRoomError(NO_ROOM)
