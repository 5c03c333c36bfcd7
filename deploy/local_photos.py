"""Finding local photos and clips: files and folders become a list of files with names.

The content of a file decides whether it is a photo. What is left out is named, never skipped in
silence; only system files and lists are.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.clip_kinds import CLIP_ENDINGS, clip_kind
from shared.errors import HiddenFileError
from shared.photo_kinds import HEAD_BYTES, PHOTO_ENDINGS, photo_kind, refusal
from shared.photo_names import is_hidden, is_never_a_photo

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class LeftOut:
    """A file that is not taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class LocalPhotos:
    """Photo files with their names in the job, and what was left out."""

    files: list[tuple[Path, str]]
    left_out: list[LeftOut] = field(default_factory=list)
    folders: tuple[Path, ...] = ()
    """The folders that were searched."""
    clips: list[tuple[Path, str]] = field(default_factory=list)
    """Clips, if they were looked for."""


def find_photos(
    paths: Sequence[Path], *, but_for: Path | None = None, with_clips: bool = False
) -> LocalPhotos:
    """Find all photos under the paths, recursively and sorted.

    A file given by name is always taken. A photo's name is its path relative to the folder; with
    several paths, it starts with the folder's name. `but_for`: a folder below the paths that is not
    searched, where results go. `with_clips`: take clips too. Raises FileNotFoundError for a missing
    path.
    """
    files: list[tuple[Path, str]] = []
    left_out: list[LeftOut] = []
    clips: list[tuple[Path, str]] = []
    for path in paths:
        if path.is_file():
            candidates: Iterable[tuple[Path, str, str | None]] = [(path, path.name, None)]
        elif path.is_dir():
            base = path.parent if len(paths) > 1 and path.name else path
            candidates = _in_folder(path, base, but_for)
        else:
            raise FileNotFoundError(f"{path} does not exist")
        for file, name, reason in candidates:
            is_clip = with_clips and _is_clip(file)
            if is_clip and not is_hidden(name):
                reason = None
            if not name.isprintable() and _not_unicode(name):
                reason = "The file's name is not UTF-8"
            if reason is None:
                (clips if is_clip else files).append((file, name))
            else:
                left_out.append(LeftOut(printable(name), reason))
    folders = tuple(path for path in paths if path.is_dir())
    return LocalPhotos(files, left_out, folders, clips)


def printable(name: str) -> str:
    r"""A name for people; bytes that are not UTF-8 become `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _in_folder(
    folder: Path, base: Path, but_for: Path | None
) -> Iterator[tuple[Path, str, str | None]]:
    """Each file of a folder that may be a photo: its path, its name, and why it is left out."""
    excluded = but_for.resolve() if but_for is not None else None
    if excluded == folder.resolve():
        excluded = None
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        inside = file.relative_to(folder).as_posix()
        if is_never_a_photo(inside) or (
            excluded is not None and excluded in file.resolve().parents
        ):
            continue
        reason = _reason_to_leave_out(file)
        if is_hidden(inside):
            if reason is not None:
                continue
            reason = HiddenFileError().detail
        yield file, file.relative_to(base).as_posix(), reason


def _is_clip(file: Path) -> bool:
    """Whether a file is a clip, or is named like one."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return False
    named_so = file.suffix.lower() in CLIP_ENDINGS and not photo_kind(head)
    return clip_kind(head) is not None or named_so


def _reason_to_leave_out(file: Path) -> str | None:
    """Why a file of a folder is no photo; None if it is one, or is named like one."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        return f"The file can't be read: {error.strerror}"
    if photo_kind(head) or file.suffix.lower() in PHOTO_ENDINGS:
        return None
    return refusal(head).detail


def _not_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False
