"""Result files of `matting cutout`: complete before they get their names, never over others."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from shared.errors import SourceNotFoundError, StorageError
from shared.photo_names import OWN_STAGING


class TargetExistsError(OSError):
    """A file is there already, and is not replaced."""


class ResultFolder:
    """A store of photos and results in local files; an object's key is a path.

    Results are complete before they get their names. A context manager: the end removes what is
    unfinished.
    """

    def __init__(
        self,
        out: Path,
        photos: Iterable[Path],
        *,
        overwrite: bool,
        is_own: Callable[[Path], bool] = lambda _path: False,
    ) -> None:
        """`photos`: the originals; they are never replaced, through whatever link. `is_own`:
        whether an earlier run wrote the file that is there now; such a file may be replaced.
        """
        self._is_own = is_own
        self.out = out
        self.staging = out / f"{OWN_STAGING}{os.getpid()}"
        self._overwrite = overwrite
        self._originals = {_identity(photo) for photo in photos} - {None}
        self._placed: set[tuple[int, int] | None] = set()

    def __enter__(self) -> "ResultFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self) -> None:
        """Make the folder. Raises OSError if it can't be written, before anything is computed."""
        try:
            self.staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{self.out} can't be written: {error.strerror}") from error

    def close(self) -> None:
        """Remove what is unfinished."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """Read a file. Raises SourceNotFoundError."""
        try:
            return Path(key).read_bytes()
        except OSError as error:
            raise SourceNotFoundError(f"{key} can't be read: {error.strerror}") from error

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an unfinished file. Raises StorageError."""
        path = Path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise StorageError(f"{key} can't be written: {error.strerror}") from error

    def check(self, target: Path) -> None:
        """Raise TargetExistsError if the target may not be written."""
        if not os.path.lexists(target):
            return
        if _identity(target) in self._originals:
            raise TargetExistsError(f"{target} is one of the photos, and is not replaced")
        if _identity(target) in self._placed:
            raise TargetExistsError(f"{target} is the result of another photo")
        if not self._overwrite and not self._is_own(target):
            raise TargetExistsError(f"{target} is there already; --overwrite would replace it")

    def keep(self, results: Iterable[Path]) -> None:
        """Keep the results of photos that an earlier run has made: no other photo replaces them."""
        self._placed.update(_identity(result) for result in results)

    def place(self, staged: Path, target: Path) -> None:
        """Give an unfinished file its name. Raises TargetExistsError, OSError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.check(target)
        self._move(staged, target)
        self._placed.add(_identity(target))

    def _move(self, staged: Path, target: Path) -> None:
        if self._overwrite or self._is_own(target):
            staged.replace(target)
            return
        try:
            os.link(staged, target)  # unlike a rename, it fails if somebody was faster
        except FileExistsError as error:
            raise TargetExistsError(f"{target} is there already") from error
        except OSError:  # a file system without links
            if os.path.lexists(target):
                raise TargetExistsError(f"{target} is there already") from None
            staged.rename(target)
        else:
            staged.unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, the same through all its links; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
