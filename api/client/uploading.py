"""Local files to upload, and the journal that lets an interrupted submission continue.

A repeated submission with the same journal uploads only the missing files and creates one job.
"""

import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UPLOADS_PER_REQUEST = 500

JOURNAL_TTL_S = 12 * 3600
"""Age at which a journal expires. The service may have deleted uploads without a job by then."""

LocalFiles = Sequence[tuple[Path, str]] | Sequence[Path] | Sequence[str] | Path
"""Paths, or pairs of a path and the image's name in the job; or one path."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to upload and its name in the job."""

    path: Path
    name: str

    def identity(self) -> list[str | int]:
        """Name, path, size and modification time. It changes when the file changes.

        Raises OSError.
        """
        found = self.path.stat()
        return [self.name, str(self.path.resolve()), found.st_size, found.st_mtime_ns]


def normalise_files(files: LocalFiles) -> list[LocalFile]:
    """Convert the files of `submit_files` to LocalFile objects. A single path is one file.

    Raises ValueError if there are none.
    """
    if isinstance(files, str | os.PathLike):
        files = [Path(files)]
    if not files:
        raise ValueError("there are no files to submit")
    paths = [Path(entry) for entry in files if not isinstance(entry, tuple)]
    names = iter(_names_of(paths))
    return [
        LocalFile(Path(entry[0]), readable_name(entry[1]))
        if isinstance(entry, tuple)
        else LocalFile(Path(entry), readable_name(next(names)))
        for entry in files
    ]


def _names_of(paths: Sequence[Path]) -> list[str]:
    """The names of images by their paths: of an absolute one what follows the folder that all
    absolute ones share, so that no two are alike.
    """
    absolute = [path for path in paths if path.is_absolute()]
    parents = [str(path.parent) for path in absolute]
    shared = os.path.commonpath(parents) if parents else ""
    return [str(path.relative_to(shared)) if path.is_absolute() else str(path) for path in paths]


def readable_name(name: str) -> str:
    """A file's name as text. Bytes that are no UTF-8 (Linux allows any) are read as latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name


def remove_expired_journals(folder: Path) -> None:
    """Delete journals older than JOURNAL_TTL_S."""
    for path in folder.glob("*.jsonl"):
        if not _is_valid(path):
            path.unlink(missing_ok=True)


class Journal:
    """Records which files have been uploaded, one JSON line each.

    Call `forget` after the job has been created.
    """

    def __init__(self, path: Path | None) -> None:
        """Open or create the journal at `path`. With None, it exists in memory only."""
        self._path = path
        self._handles: dict[str, str] = {}
        self.name = uuid.uuid4().hex
        if path is None:
            return
        if _is_valid(path):
            self._read(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"journal": self.name}) + "\n")

    @property
    def is_kept(self) -> bool:
        """Whether another process can go on with it."""
        return self._path is not None

    def handle(self, file: LocalFile) -> str | None:
        """The upload handle of a file that has been uploaded, else None. Raises OSError."""
        return self._handles.get(json.dumps(file.identity()))

    def note(self, file: LocalFile, handle: str) -> None:
        """Record that a file has been uploaded. Raises OSError."""
        key = json.dumps(file.identity())
        self._handles[key] = handle
        if self._path is not None:
            with self._path.open("a") as lines:
                lines.write(json.dumps({"file": key, "upload": handle}) + "\n")

    def forget(self) -> None:
        """Delete the journal's file."""
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


def _is_valid(path: Path) -> bool:
    return path.exists() and time.time() - path.stat().st_mtime < JOURNAL_TTL_S
