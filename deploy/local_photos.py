"""Finding local photos and clips: files and folders become a list of files with names.

The content of a file decides whether it is a photo. What is left out is named, never skipped in
silence; only system files and lists are.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.terminal_text import printable
from shared.clip_kinds import CLIP_ENDINGS, clip_kind
from shared.errors import HiddenFileError
from shared.photo_kinds import HEAD_BYTES, PHOTO_ENDINGS, photo_kind, refusal
from shared.photo_names import is_hidden, is_never_a_photo

ZIP = "The file is a zip file, not a photo"
MEND = "Mend or remove it."

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class LeftOut:
    """A file that is not taken, and why."""

    name: str
    reason: str
    remedy: str | None = None
    """What to do with this one; None: it is no photo as it is."""


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
            remedy = None if reason is None else _remedy(file, reason)
            is_clip = with_clips and _is_clip(file)
            if is_clip and not is_hidden(name):
                reason = None
            if not name.isprintable() and _not_unicode(name):
                reason, remedy = "The file's name is not UTF-8", "Rename it."
            if reason is None:
                (clips if is_clip else files).append((file, name))
            else:
                left_out.append(LeftOut(printable(name), reason, remedy))
    folders = tuple(path for path in paths if path.is_dir())
    return LocalPhotos(files, left_out, folders, clips)


def _in_folder(
    folder: Path, base: Path, but_for: Path | None
) -> Iterator[tuple[Path, str, str | None]]:
    """Each file of a folder that may be a photo: its path, its name, and why it is left out."""
    excluded = but_for.resolve() if but_for is not None else None
    if excluded == folder.resolve():
        excluded = None
    unreadable: dict[Path, str] = {}
    for file in sorted((*_walk(folder, unreadable), *unreadable)):
        inside = file.relative_to(folder).as_posix()
        if is_never_a_photo(inside) or (
            excluded is not None and excluded in file.resolve().parents
        ):
            continue
        reason = unreadable.get(file) or _reason_to_leave_out(file)
        if is_hidden(inside):
            if reason is not None:
                continue
            reason = HiddenFileError().detail
        yield file, file.relative_to(base).as_posix(), reason


def _walk(folder: Path, unreadable: dict[Path, str]) -> Iterator[Path]:
    """Everything below a folder but folders; those that can't be read go into `unreadable`."""

    def note(error: OSError) -> None:
        unreadable[Path(error.filename)] = f"The folder can't be read: {error.strerror}"

    for place, folders, files in os.walk(folder, onerror=note):
        links = (one for one in folders if os.path.islink(os.path.join(place, one)))
        yield from (Path(place, one) for one in (*files, *links))


def _remedy(file: Path, reason: str) -> str | None:
    if reason == ZIP:
        return f"Unpack it, or use `matting submit {printable(file.name)}`."
    if reason == HiddenFileError().detail:
        return "If it is a photo of yours, rename it."
    return MEND if reason.startswith(("The link", "The file can't", "The folder can't")) else None


def _is_clip(file: Path) -> bool:
    """Whether a file is a clip, or is named like one."""
    if not file.is_file():
        return False
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return False
    named_so = file.suffix.lower() in CLIP_ENDINGS and not photo_kind(head)
    return clip_kind(head) is not None or named_so


def _reason_to_leave_out(file: Path) -> str | None:
    """Why a file of a folder is no photo; None if it is one, or is named like one."""
    if file.is_symlink() and not file.exists():
        return "The link leads to no file"
    if not file.is_file():
        return "The link leads to a folder" if file.is_dir() else "It is no regular file"
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
