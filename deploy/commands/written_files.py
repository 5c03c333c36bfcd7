"""What `matting cutout` and `matting demo` wrote into a folder, and from what: a second run writes
only what is missing or changed, and never replaces a file of somebody else.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.commands.progress import console
from deploy.terminal_text import escape
from shared.options import Options

RECORD = ".matting-cutout.json"

BEGUN = "\0begun"
"""Ends the key of a photo whose results were about to get their names. No file name has it."""

FORGET_AFTER_S = 180 * 86_400.0
"""Records of single results are removed when none was written for so long. A result without a
record is kept, and `--overwrite` replaces it.
"""


@dataclass(frozen=True, slots=True)
class FileState:
    """Size and time of a file: if both are the same, it counts as the same file."""

    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileState | None":
        """The state of a file; None if there is none."""
        try:
            stat = path.stat()
        except OSError:
            return None
        return cls(stat.st_size, stat.st_mtime_ns)


class WrittenFiles:
    """The record of one folder of results, or of one result."""

    def __init__(
        self, folder: Path, options: Options | None, model: str, *, target: Path | None = None
    ) -> None:
        """Read the record of earlier runs. `options`: None if results replace those of any options.
        `model`: the model that is used now. `target`: the only file that is written; then its
        folder is the user's, and the record lies elsewhere.
        """
        self._folder = folder
        self._record = folder / RECORD if target is None else _record_of(target)
        self._is_single = target is not None
        self._has_told = False
        self._settings = _digest(options, model)
        self._photos: dict[str, dict[str, Any]] = _read(self._record)
        self._own = {
            (name, FileState(**state))
            for entry in self._photos.values()
            if entry["settings"] == self._settings  # other options: another run's results
            for name, state in entry["files"].items()
        }

    def has_results_of(self, photo: Path, name: str) -> list[Path]:
        """The results of an earlier run if photo, options and model are the same and no file was
        changed since; otherwise an empty list. `name`: the photo's name in the job.
        """
        entry, state = self._photos.get(name), FileState.of(photo)
        if entry is None or state is None or entry["settings"] != self._settings:
            return []
        if entry["photo"] != asdict(state):
            return []
        files = [self._folder / file for file in entry["files"]]
        # A result of one name may have been another photo's since, so the photo's own states count.
        written = [FileState(**one) for one in entry["files"].values()]
        return files if [FileState.of(file) for file in files] == written else []

    def wrote(self, path: Path) -> bool:
        """Whether the file is what an earlier run with these options wrote there, unchanged."""
        state = FileState.of(path)
        return state is not None and (self._name(path), state) in self._own

    def begin(self, photo: Path, name: str, places: Mapping[Path, Path]) -> None:
        """Remember which results, by their places, are about to get their names: if only some get
        them, the next run may replace those. `note` ends it. Raises OSError, unless the only result
        is written: that one is complete without its record.
        """
        with self._told() if self._is_single else contextlib.nullcontext():
            self._remember(photo, name + BEGUN, {self._name(to): one for to, one in places.items()})

    def note(self, photo: Path, name: str, files: Sequence[Path]) -> None:
        """Remember what was written for a photo, even if the process ends a moment later."""
        with self._told():
            self._remember(photo, name, {self._name(file): file for file in files})

    def _remember(self, photo: Path, key: str, files: Mapping[str, Path]) -> None:
        state = FileState.of(photo)
        written = {name: FileState.of(file) for name, file in files.items()}
        if state is None or None in written.values():  # somebody removes files meanwhile
            return
        states = {name: one for name, one in written.items() if one is not None}
        entry = {
            "photo": asdict(state),
            "settings": self._settings,
            "files": {name: asdict(one) for name, one in states.items()},
        }
        self._photos[key] = entry
        self._own |= set(states.items())
        self._record.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(), self._record.open("a") as record:
            record.write(f"\n{json.dumps({key: entry})}")

    def save(self) -> None:
        """Write the record anew, one entry a photo; if that fails, the longer one stays."""
        with self._told(), self._locked():
            photos = _read(self._record)
            if not photos:
                return
            partial = self._record.with_name(f"{self._record.name}.{os.getpid()}.part")
            try:
                partial.write_text(json.dumps(photos))
                partial.replace(self._record)
            finally:
                partial.unlink(missing_ok=True)
            if self._is_single:
                _forget_old(self._record.parent)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """While no other run writes a record of the same folder: what one adds while another writes
        the record anew would be lost. It still may be on network file
        systems that can't lock a folder.
        """
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                folder = os.open(self._record.parent, os.O_RDONLY)
                stack.callback(os.close, folder)
                fcntl.flock(folder, fcntl.LOCK_EX)
                # A child process that starts meanwhile has the lock too; this ends it for both.
                stack.callback(fcntl.flock, folder, fcntl.LOCK_UN)
            yield

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Results are complete without their record: what keeps it from being written, as a full
        disk, is told once, and is no error.
        """
        try:
            yield
        except OSError as error:
            if self._has_told:
                return
            self._has_told = True
            effect = "only --overwrite will replace this result"
            if not self._is_single:
                effect = "the next run may make some of these results again"
            console.print(
                f"[yellow]note:[/] {escape(str(error))}. So {effect}.",
                soft_wrap=True,
            )

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def state_folder() -> Path:
    """Where commands remember things (XDG Base Directory Specification). It may be impossible to
    write there: containers have users without a home.
    """
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "matting"
    try:
        home = Path.home()
    except RuntimeError:  # the user is unknown, so nothing can be below it
        home = Path(os.devnull)
    return home / ".local" / "state" / "matting"


def _record_of(target: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(target.absolute())).hexdigest()
    return state_folder() / "cutout" / f"{digest[:32]}.json"


def _forget_old(folder: Path) -> None:
    """Remove records of single results that are older than FORGET_AFTER_S."""
    before = time.time() - FORGET_AFTER_S
    for record in folder.iterdir():
        with contextlib.suppress(OSError):  # another process was faster
            if record.stat().st_mtime < before:
                record.unlink()


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The record: one object, and a line for each photo since. Nothing is known from a line that is
    damaged or missing, so no file may be replaced because of it.
    """
    try:
        lines = path.read_text().split("\n")
    except (OSError, ValueError):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            photos = json.loads(line)
            for entry in photos.values():
                for state in (entry["photo"], *entry["files"].values()):
                    FileState(**state)
                str(entry["settings"])
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        for name, entry in photos.items():
            found.pop(name + BEGUN, None)
            found[name] = entry
    return found


def _digest(options: Options | None, model: str) -> str:
    text = json.dumps([options and options.model_dump(mode="json"), model], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
