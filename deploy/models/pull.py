"""Fetches a published model: resumed where it broke off, checked against a lock file, unpacked
with care, and put in place only when it can be read.
"""

import hashlib
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from deploy.models.download import OnBytes, download, forget
from deploy.models.lock import LOCK_FILE, check_lock, note
from shared.errors import BadModelArchiveError, ModelChangedError, ModelDownloadError
from worker.inference.catalog import Model, read_export

CHUNK_BYTES = 1 << 20
MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_ENTRIES = 1_000
PARTS = frozenset({".yaml", ".yml", ".pdmodel", ".pdiparams", ".json", ".info", ".txt", ".md"})
"""What an export consists of; anything else in the archive is left where it is."""


def pull(name: str, source: str, models_dir: Path, on_bytes: OnBytes = lambda *_: None) -> Model:
    """Fetch the archive `source` (a URL, or a local file) as the model `name`.

    Raises ModelDownloadError, ModelChangedError, BadModelArchiveError, ModelLoadError; what was
    there before stays then.
    """
    with fetched(name, source, models_dir, on_bytes) as (archive, _seen):
        return install(name, models_dir, lambda fresh: unpack(archive, fresh))


@contextmanager
def fetched(
    name: str,
    source: str,
    models_dir: Path,
    on_bytes: OnBytes = lambda *_: None,
    *,
    md5: str | None = None,
    licence: str | None = None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The file `source` (a URL, or a local file) and its size and SHA-256, checked against the
    lock; entered into it when the block ends well.

    `md5`: what its publisher says of it. Raises ModelDownloadError, ModelChangedError.
    """
    remote = source.startswith(("http://", "https://"))
    file = models_dir / f".{name}.part" if remote else Path(source)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        if remote:
            download(source, file, on_bytes)
        try:
            seen: dict[str, Any] = {"bytes": file.stat().st_size, "sha256": _digest(file, "sha256")}
            if md5 is not None and _digest(file, "md5") != md5:
                raise ModelChangedError(
                    f"{source} has {seen['bytes']} bytes and is not the published {name}: its MD5 "
                    f"must be {md5}"
                )
            check_lock(models_dir / LOCK_FILE, name, seen)
            yield file, seen
        finally:
            if remote:  # right or wrong, going on with it would bring the same again
                forget(file)
        known = {"licence": licence} if licence else {}
        note(models_dir / LOCK_FILE, name, {**seen, **known, "source": source})
    except OSError as error:
        raise ModelDownloadError(f"{source}: {error}") from error


def install(name: str, models_dir: Path, write: Callable[[Path], object]) -> Model:
    """Let `write` fill an empty folder, and put it in place as the model `name` when it can be
    read; what was there before stays otherwise. Raises what `write` raises, and ModelLoadError.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models_dir) as folder:
        fresh = Path(folder) / "new"
        fresh.mkdir()
        write(fresh)
        read_export(fresh, name)
        _put_in_place(fresh, models_dir / name)
    return read_export(models_dir / name, name)


def unpack(archive: Path, folder: Path) -> None:
    """Write the export's files to `folder`, flat: no path of the archive is followed.

    Raises BadModelArchiveError for what is no zip, has no deploy.yaml, or would grow too large.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            if len(entries) > MAX_ENTRIES:
                raise BadModelArchiveError(f"{len(entries)} entries are no model")
            home = next(
                (PurePosixPath(one.filename).parent for one in entries
                 if PurePosixPath(one.filename).name == "deploy.yaml"), None,
            )  # fmt: skip
            if home is None:
                raise BadModelArchiveError("There is no deploy.yaml in it")
            room = MAX_UNPACKED_BYTES
            for entry in entries:
                path = PurePosixPath(entry.filename)
                plain = not entry.is_dir() and not stat.S_ISLNK(entry.external_attr >> 16)
                if plain and path.parent == home and path.suffix in PARTS:
                    with opened.open(entry) as inside, (folder / path.name).open("xb") as file:
                        room -= _copy(inside, file, room)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, FileExistsError) as error:
        raise BadModelArchiveError(f"{archive.name}: {error}") from error


def _copy(inside: IO[bytes], file: IO[bytes], room: int) -> int:
    """What the header says of an entry's size may be a lie: what comes is counted."""
    written = 0
    while chunk := inside.read(CHUNK_BYTES):
        written += len(chunk)
        if written > room:
            raise BadModelArchiveError("It unpacks to more than a model can be")
        file.write(chunk)
    return written


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _put_in_place(fresh: Path, target: Path) -> None:
    """A worker that loads at this moment finds the old model or the new one."""
    if target.exists():
        target.rename(fresh.with_name("old"))
    fresh.rename(target)
