"""Downloads: the local path of each result, which files are missing, and how one is written."""

import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Self

from api.client.file_names import output_names
from api.client.responses import Item
from api.client.viewer_files import VIEWER_ENDING, name_pictures

COPIED_BYTES = 1024**2

TIME_PRECISION_S = 2
"""Of the least precise file system, FAT."""


@dataclass(frozen=True, slots=True)
class Download:
    """The result files of one image and their local paths."""

    item: Item
    paths: tuple[Path, ...]
    """Local paths, the main result first."""
    mains: Mapping[str, str]
    """The local path of each image's main result, by the image's id."""

    @property
    def main(self) -> Path:
        """The local path of the main result."""
        return self.paths[0]

    @property
    def finished_at(self) -> float:
        """When the shown version was made, in seconds since 1970: each version has its own. The
        files get this as their time of change.
        """
        assert self.item["finished_at"] is not None, "a succeeded image has ended"
        return datetime.fromisoformat(self.item["finished_at"]).timestamp()

    def missing(self, *, overwrite: bool = False) -> Iterator[tuple[str, Path]]:
        """Address and local path of each file that is not there, or that may be another version of
        this result: it has the same size and another time. What has another size is somebody
        else's: raises FileExistsError, unless `overwrite` is set.
        """
        sources = [
            (self.item["result"], self.item["output_bytes"]),
            *((output["url"], output["bytes"]) for output in self.item["outputs"][1:]),
        ]
        for (url, size), path in zip(sources, self.paths, strict=True):
            assert url is not None, "a succeeded image has a result"
            if not os.path.lexists(path):
                yield url, path
            elif path.is_file() and (
                (found := path.stat()).st_size == size or self.is_viewer(path)
            ):
                if abs(found.st_mtime - self.finished_at) > TIME_PRECISION_S:
                    yield url, path
            elif overwrite:
                yield url, path
            else:
                raise _not_this_result(path)

    def written(self, path: Path, content: bytes) -> bytes:
        """What is written to the path of a file for viewers, of what the service sent."""
        return name_pictures(content, path.as_posix(), self.mains)

    def is_viewer(self, path: Path) -> bool:
        """Whether it is the file of a turntable for viewers. It names the results as they are
        downloaded, so it may have another size than the service says.
        """
        return path.suffix == VIEWER_ENDING and self.item["kind"] == "turntable"


def plan_downloads(items: Sequence[Item], folder: Path) -> list[Download]:
    """The downloads for a job's succeeded images. All local paths are distinct."""
    planned = [
        (item, tuple(_safe_join(folder, name) for name in names))
        for item, names in zip(items, output_names(items), strict=True)
        if item["status"] == "succeeded"
    ]
    mains = {item["id"]: paths[0].as_posix() for item, paths in planned}
    return [Download(item, paths, mains) for item, paths in planned]


def _safe_join(folder: Path, name: str) -> Path:
    """Join a name to the folder. The result never leaves the folder, whatever the name is."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return folder.joinpath(*(part for part in parts if part not in ("/", "//", "..")))


class NewFile:
    """A file that is written as its bytes come, and is never visible half-written. While they are
    equal to the file that is there, nothing is written: its folder may be somebody else's. Use it
    as a context manager; another thread may still write when it ends.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._partial: Path | None = None
        self._file: IO[bytes] | None = None
        """Of the partial file."""
        self._there: IO[bytes] | None = None
        """The file that is there, read as far as it is equal; None: it is another one."""
        self._closed = False
        self._closing = threading.Lock()
        # Nothing is created yet: a cancelled download never enters.
        if path.is_file():
            self._there = path.open("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._closing:
            self._closed = True
        for file in (self._there, self._file):
            if file is not None:
                file.close()
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Add bytes. Raises OSError, and ValueError after its end."""
        equal = 0
        if self._there is not None:
            equal = self._there.tell()
            if self._there.read(len(data)) == data:
                return
        file = self._file or self._begin(equal)
        file.write(data)

    def place(self, *, changed_at: float, overwrite: bool) -> None:
        """Give it its name, now that it is complete. `changed_at`: its time, in seconds since 1970.
        Raises OSError: FileExistsError if a file with other bytes is there and `overwrite` is not
        set.
        """
        equal = 0
        if self._there is not None:
            equal = self._there.tell()
            if not self._there.read(1):
                _set_time(self._path, changed_at)
                return
        file = self._file or self._begin(equal)
        assert self._partial is not None
        file.close()
        _set_time(self._partial, changed_at)
        if overwrite:
            self._partial.replace(self._path)
            return
        try:
            os.link(self._partial, self._path)  # unlike a rename, it fails if somebody was faster
        except FileExistsError:
            raise _not_this_result(self._path) from None
        except OSError:  # a file system without links
            if os.path.lexists(self._path):
                raise _not_this_result(self._path) from None
            self._partial.rename(self._path)

    def _begin(self, equal: int) -> IO[bytes]:
        """Begin the partial file with the first bytes of what is there. Raises as `write`."""
        with self._closing:
            if self._closed:
                raise ValueError(f"{self._path} is no longer written")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Short, whatever the result is called: names end at 255 bytes.
            self._partial = self._path.with_name(f".{secrets.token_hex(4)}.part")
            self._file = file = self._partial.open("xb")
        if self._there is not None:
            self._there.seek(0)
            while equal and (data := self._there.read(min(equal, COPIED_BYTES))):
                file.write(data)
                equal -= len(data)
            self._there.close()
            self._there = None
        return file


def _set_time(path: Path, changed_at: float) -> None:
    """Set it if the file is this user's, and its file system keeps times. Without it the next
    download fetches the file once more.
    """
    with suppress(OSError):
        os.utime(path, (changed_at, changed_at))


def _not_this_result(path: Path) -> FileExistsError:
    return FileExistsError(f"{path} is there already, and is not this result; it is not replaced")
