"""Download of a published model, with resume, a check against the lock file, and safe unpacking.

The new model replaces the old one only after it has been read successfully.
"""

import hashlib
import json
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

import httpx

from shared.errors import BadModelArchiveError, ModelChangedError, ModelDownloadError
from worker.inference.catalog import Model, read_export

LOCK_FILE = "models.lock.json"
"""File in the models folder with size and SHA-256 of each archive at its first download. Copy it to
other machines, and they reject any other archive."""

MAX_ATTEMPTS = 5
CHUNK_BYTES = 1 << 20
MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_ENTRIES = 1_000
MODEL_FILE_SUFFIXES = frozenset(
    {".yaml", ".yml", ".pdmodel", ".pdiparams", ".json", ".info", ".txt", ".md"}
)
"""Extensions of the files that belong to an export. Other files in the archive are ignored."""

OnProgress = Callable[[int, int], None]
"""Progress callback: received bytes and total bytes (0 if unknown)."""


def pull(
    name: str, source: str, models_dir: Path, on_progress: OnProgress = lambda *_: None
) -> Model:
    """Install the archive `source` (a URL or a local file) as the model `name`.

    Raises ModelDownloadError, ModelChangedError, BadModelArchiveError, ModelLoadError. On an error,
    an existing model stays installed.
    """
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        remote = source.startswith(("http://", "https://"))
        archive = models_dir / f".{name}.zip.part" if remote else Path(source)
        if remote:
            _download(source, archive, on_progress)
        found = {"bytes": archive.stat().st_size, "sha256": _sha256(archive)}
        try:
            _check_lock(models_dir / LOCK_FILE, name, found)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models_dir) as folder:
                fresh = Path(folder) / "new"
                fresh.mkdir()
                unpack(archive, fresh)
                read_export(fresh, name)
                _replace_model(fresh, models_dir / name)
        finally:
            if remote:  # complete: a later download must not resume it
                archive.unlink(missing_ok=True)
                _etag_file(archive).unlink(missing_ok=True)
        _write_lock_entry(models_dir / LOCK_FILE, name, {**found, "source": source})
        return read_export(models_dir / name, name)
    except OSError as error:
        raise ModelDownloadError(f"{source}: {error}") from error


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


def _download(url: str, partial: Path, on_progress: OnProgress) -> None:
    """Download a URL to `partial`. Interrupted downloads are resumed, also by a later call."""
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                _resume_download(client, url, partial, on_progress)
                return
            except httpx.TransportError as error:
                if attempt == MAX_ATTEMPTS:
                    raise ModelDownloadError(
                        f"The download of {url} failed {MAX_ATTEMPTS} times: {error}"
                    ) from error
                time.sleep(0.2 * 2**attempt)


def _resume_download(
    client: httpx.Client, url: str, partial: Path, on_progress: OnProgress
) -> None:
    """Request the missing bytes. `If-Range` returns the whole file if it changed meanwhile."""
    have = partial.stat().st_size if partial.exists() else 0
    etag_file = _etag_file(partial)
    headers = {"Accept-Encoding": "identity"}
    if have and etag_file.exists():
        headers |= {"Range": f"bytes={have}-", "If-Range": etag_file.read_text()}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()
            raise httpx.ReadError("the partial file is longer than the model; starting again")
        if answer.status_code >= 500:
            raise httpx.ReadError(f"status {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise ModelDownloadError(f"{url} answers {answer.status_code}")
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        here = have if resumed else 0
        total = here + int(answer.headers.get("Content-Length", 0))
        tag = answer.headers.get("ETag", "")
        if not resumed:
            etag_file.unlink(missing_ok=True)
            if tag.startswith('"'):  # a weak ETag does not guarantee identical bytes
                etag_file.write_text(tag)
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                here += len(chunk)
                on_progress(here, total)


def _etag_file(partial: Path) -> Path:
    return partial.with_suffix(".etag")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_lock(lock: Path, name: str, found: dict[str, Any]) -> None:
    """Compare an archive with the lock file. Raises ModelChangedError if it is another one.

    A model without an entry passes.
    """
    known = _read_lock(lock).get(name)
    if known and (known["bytes"], known["sha256"]) != (found["bytes"], found["sha256"]):
        raise ModelChangedError(
            f"{name} has {found['bytes']} bytes and SHA-256 {found['sha256'][:16]}…; {lock} says "
            f"{known['bytes']} bytes and {known['sha256'][:16]}…"
        )


def _write_lock_entry(lock: Path, name: str, entry: dict[str, Any]) -> None:
    known = _read_lock(lock)
    known.setdefault(name, entry)
    partial = lock.with_suffix(".part")
    partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    partial.replace(lock)


def _read_lock(lock: Path) -> dict[str, Any]:
    if not lock.exists():
        return {}
    try:
        known: dict[str, Any] = json.loads(lock.read_text())
    except ValueError as error:
        raise ModelDownloadError(f"{lock} can't be read: {error}") from error
    return known


def _replace_model(fresh: Path, target: Path) -> None:
    """Replace the model's folder by renaming: a worker loads either the old or the new model."""
    if target.exists():
        target.rename(fresh.with_name("old"))
    fresh.rename(target)
