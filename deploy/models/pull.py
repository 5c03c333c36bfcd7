"""Installation of published models: download, check against the lock file, safe unpacking.

A new model replaces the old one only after it has been read successfully.
"""

import hashlib
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from deploy.models.download import OnProgress, download, remove_partial
from deploy.models.lock import LOCK_FILE, add_lock_entry, check_lock
from shared.errors import BadModelArchiveError, ModelChangedError, ModelDownloadError
from worker.inference.catalog import Model, read_export

CHUNK_BYTES = 1 << 20
MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_ENTRIES = 1_000
MODEL_FILE_SUFFIXES = frozenset(
    {".yaml", ".yml", ".pdmodel", ".pdiparams", ".json", ".info", ".txt", ".md"}
)
"""Extensions of the files that belong to an export. Other files in the archive are ignored."""


def pull(
    name: str, source: str, models_dir: Path, on_progress: OnProgress = lambda *_: None
) -> Model:
    """Install the archive `source` (a URL or a local file) as the model `name`.

    Raises ModelDownloadError, ModelChangedError, BadModelArchiveError, ModelLoadError. On an error,
    an existing model stays installed.
    """
    with fetch_checked(name, source, models_dir, on_progress) as (archive, _found):
        return install(name, models_dir, lambda fresh: unpack(archive, fresh))


@contextmanager
def fetch_checked(
    name: str,
    source: str,
    models_dir: Path,
    on_progress: OnProgress = lambda *_: None,
    *,
    md5: str | None = None,
    licence: str | None = None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Fetch the file `source` (a URL or a local file) and check it against the lock file.

    Yields the file with its size and SHA-256. When the block ends without an error, they are added
    to the lock file. `md5` is the publisher's checksum. Raises ModelDownloadError,
    ModelChangedError.
    """
    remote = source.startswith(("http://", "https://"))
    file = models_dir / f".{name}.part" if remote else Path(source)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        if remote:
            download(source, file, on_progress)
        try:
            found: dict[str, Any] = {
                "bytes": file.stat().st_size,
                "sha256": _digest(file, "sha256"),
            }
            if md5 is not None and _digest(file, "md5") != md5:
                raise ModelChangedError(
                    f"{source} has {found['bytes']} bytes and is not the published {name}: its MD5 "
                    f"must be {md5}"
                )
            check_lock(models_dir / LOCK_FILE, name, found)
            yield file, found
        finally:
            if remote:  # complete: a later download must not resume it
                remove_partial(file)
        known = {"licence": licence} if licence else {}
        add_lock_entry(models_dir / LOCK_FILE, name, {**found, **known, "source": source})
    except OSError as error:
        raise ModelDownloadError(f"{source}: {error}") from error


def install(name: str, models_dir: Path, write: Callable[[Path], object]) -> Model:
    """Install the model that `write` writes into an empty folder, as `name`.

    The model must be readable; otherwise an existing model stays installed. Raises the errors of
    `write`, and ModelLoadError.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models_dir) as folder:
        fresh = Path(folder) / "new"
        fresh.mkdir()
        write(fresh)
        read_export(fresh, name)
        _replace_model(fresh, models_dir / name)
    return read_export(models_dir / name, name)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the export's files to `folder`, without their paths in the archive.

    Raises BadModelArchiveError for a broken zip, a missing deploy.yaml, or too much data.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            if len(entries) > MAX_ENTRIES:
                raise BadModelArchiveError(f"It has {len(entries)} entries; a model has a few")
            home = next(
                (PurePosixPath(one.filename).parent for one in entries
                 if PurePosixPath(one.filename).name == "deploy.yaml"), None,
            )  # fmt: skip
            if home is None:
                raise BadModelArchiveError("It contains no deploy.yaml")
            bytes_left = MAX_UNPACKED_BYTES
            for entry in entries:
                path = PurePosixPath(entry.filename)
                plain = not entry.is_dir() and not stat.S_ISLNK(entry.external_attr >> 16)
                if plain and path.parent == home and path.suffix in MODEL_FILE_SUFFIXES:
                    with opened.open(entry) as inside, (folder / path.name).open("xb") as file:
                        bytes_left -= _copy_limited(inside, file, bytes_left)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, FileExistsError) as error:
        raise BadModelArchiveError(f"{archive.name}: {error}") from error


def _copy_limited(inside: IO[bytes], file: IO[bytes], bytes_left: int) -> int:
    """Copy an entry, at most `bytes_left` bytes; returns the count.

    The size in the archive's header may be wrong, so the unpacked bytes are counted.
    """
    written = 0
    while chunk := inside.read(CHUNK_BYTES):
        written += len(chunk)
        if written > bytes_left:
            raise BadModelArchiveError(f"It unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
        file.write(chunk)
    return written


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _replace_model(fresh: Path, target: Path) -> None:
    """Replace the model's folder by renaming: a worker loads either the old or the new model."""
    if target.exists():
        target.rename(fresh.with_name("old"))
    fresh.rename(target)
