"""Planning of downloads: the local path of each result, and which files are still missing."""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from api.client.file_names import output_names
from api.client.responses import Item
from api.client.viewer_files import VIEWER_ENDING, name_pictures

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
                (found := path.stat()).st_size == size or self._is_viewer(path)
            ):
                if abs(found.st_mtime - self.finished_at) > TIME_PRECISION_S:
                    yield url, path
            elif overwrite:
                yield url, path
            else:
                raise _not_this_result(path)

    def written(self, path: Path, content: bytes) -> bytes:
        """What is written to a path, of what the service sent. The file of a turntable for viewers
        names the results as they are downloaded, so it may have another size.
        """
        if not self._is_viewer(path):
            return content
        return name_pictures(content, path.as_posix(), self.mains)

    def _is_viewer(self, path: Path) -> bool:
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


def write_file(path: Path, content: bytes, *, changed_at: float, overwrite: bool) -> None:
    """Write a file that is never visible half-written. `changed_at`: its time, in seconds since
    1970. Raises OSError: FileExistsError if a file with other bytes is there and `overwrite` is not
    set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        _set_time(path, changed_at)
        return
    # Short, whatever the result is called: names end at 255 bytes.
    partial = path.with_name(f".{secrets.token_hex(4)}.part")
    try:
        partial.write_bytes(content)
        _set_time(partial, changed_at)
        if overwrite:
            partial.replace(path)
            return
        try:
            os.link(partial, path)  # unlike a rename, it fails if somebody was faster
        except FileExistsError:
            raise _not_this_result(path) from None
        except OSError:  # a file system without links
            if os.path.lexists(path):
                raise _not_this_result(path) from None
            partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _set_time(path: Path, changed_at: float) -> None:
    """Set it if the file is this user's, and its file system keeps times. Without it the next
    download fetches the file once more.
    """
    with suppress(OSError):
        os.utime(path, (changed_at, changed_at))


def _not_this_result(path: Path) -> FileExistsError:
    return FileExistsError(f"{path} is there already, and is not this result; it is not replaced")
