"""Local files on their way to the storage: what each is called, and a journal of what has gone.

The journal makes a broken submission of thousands of files go on where it was: sent again, it sends
only the rest, and the job is made once.
"""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UPLOADS_PER_REQUEST = 500

JOURNAL_TTL_S = 12 * 3600
"""A journal older than this is not believed: the service may have removed uploads of no job."""

LocalFiles = Sequence[tuple[Path, str]] | Sequence[Path] | Sequence[str]
"""Paths, or pairs of a path and the name that the image is to have in the job."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be sent."""

    path: Path
    name: str

    def identity(self) -> list[str | int]:
        """Of this image in its job; another when the content of the file changes, as far as the
        file system tells. Raises OSError.
        """
        found = self.path.stat()
        return [self.name, str(self.path.resolve()), found.st_size, found.st_mtime_ns]


def local_files(files: LocalFiles) -> list[LocalFile]:
    """What `submit_files` was given, in one form."""
    return [
        LocalFile(Path(entry[0]), entry[1])
        if isinstance(entry, tuple)
        else LocalFile(Path(entry), str(entry))
        for entry in files
    ]


def forget_old(folder: Path) -> None:
    """Remove the journals that are no longer believed."""
    for path in folder.glob("*.jsonl"):
        if not _is_young(path):
            path.unlink(missing_ok=True)


class Journal:
    """Which files have gone, one line each; `forget` it when their job is there."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: nothing is kept, and nothing found."""
        self._path = path
        self._handles: dict[str, str] = {}
        self.name = uuid.uuid4().hex
        if path is None:
            return
        if _is_young(path):
            self._read(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"journal": self.name}) + "\n")

    def handle(self, file: LocalFile) -> str | None:
        """The upload that this file already is. Raises OSError."""
        return self._handles.get(json.dumps(file.identity()))

    def note(self, file: LocalFile, handle: str) -> None:
        """Keep that a file has gone. Raises OSError."""
        key = json.dumps(file.identity())
        self._handles[key] = handle
        if self._path is not None:
            with self._path.open("a") as lines:
                lines.write(json.dumps({"file": key, "upload": handle}) + "\n")

    def forget(self) -> None:
        """The job is there."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        for line in path.read_text().splitlines():
            try:
                entry: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:  # the last line of a run that was killed
                continue
            if "journal" in entry:
                self.name = entry["journal"]
            else:
                self._handles[entry["file"]] = entry["upload"]


def _is_young(path: Path) -> bool:
    return path.exists() and time.time() - path.stat().st_mtime < JOURNAL_TTL_S
