"""Fetches a published model: resumed where it broke off, checked against a lock file, unpacked
with care, and put in place only when it can be read.
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
"""In the models' folder: size and SHA-256 of each archive as it first came. Copy it to the other
machines, and they refuse what is not the same."""

TRIES = 5
CHUNK_BYTES = 1 << 20
MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_ENTRIES = 1_000
PARTS = frozenset({".yaml", ".yml", ".pdmodel", ".pdiparams", ".json", ".info", ".txt", ".md"})
"""What an export consists of; anything else in the archive is left where it is."""

OnBytes = Callable[[int, int], None]
"""Hears of progress: bytes that are here, bytes in all (0: not known)."""


def pull(name: str, source: str, models_dir: Path, on_bytes: OnBytes = lambda *_: None) -> Model:
    """Fetch the archive `source` (a URL, or a local file) as the model `name`.

    Raises ModelDownloadError, ModelChangedError, BadModelArchiveError, ModelLoadError; what was
    there before stays then.
    """
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        remote = source.startswith(("http://", "https://"))
        archive = models_dir / f".{name}.zip.part" if remote else Path(source)
        if remote:
            _download(source, archive, on_bytes)
        seen = {"bytes": archive.stat().st_size, "sha256": _sha256(archive)}
        try:
            _check(models_dir / LOCK_FILE, name, seen)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models_dir) as folder:
                fresh = Path(folder) / "new"
                fresh.mkdir()
                unpack(archive, fresh)
                read_export(fresh, name)
                _put_in_place(fresh, models_dir / name)
        finally:
            if remote:  # right or wrong, going on with it would bring the same again
                archive.unlink(missing_ok=True)
                _mark(archive).unlink(missing_ok=True)
        _note(models_dir / LOCK_FILE, name, {**seen, "source": source})
        return read_export(models_dir / name, name)
    except OSError as error:
        raise ModelDownloadError(f"{source}: {error}") from error


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


def _download(url: str, partial: Path, on_bytes: OnBytes) -> None:
    """All of the URL into `partial`; a break is gone on from, now and at the next call."""
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        for attempt in range(1, TRIES + 1):
            try:
                _continue(client, url, partial, on_bytes)
                return
            except httpx.TransportError as error:
                if attempt == TRIES:
                    raise ModelDownloadError(f"{url} broke off {TRIES} times: {error}") from error
                time.sleep(0.2 * 2**attempt)


def _continue(client: httpx.Client, url: str, partial: Path, on_bytes: OnBytes) -> None:
    """Ask for what is missing. `If-Range` brings the whole file when it is another one by now."""
    have = partial.stat().st_size if partial.exists() else 0
    mark = _mark(partial)
    headers = {"Accept-Encoding": "identity"}
    if have and mark.exists():
        headers |= {"Range": f"bytes={have}-", "If-Range": mark.read_text()}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()
            raise httpx.ReadError("there is nothing after what is here: beginning again")
        if answer.status_code >= 500:
            raise httpx.ReadError(f"status {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise ModelDownloadError(f"{url} answers {answer.status_code}")
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        here = have if goes_on else 0
        total = here + int(answer.headers.get("Content-Length", 0))
        tag = answer.headers.get("ETag", "")
        if not goes_on:
            mark.unlink(missing_ok=True)
            if tag.startswith('"'):  # a weak one does not vouch for bytes
                mark.write_text(tag)
        with partial.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                here += len(chunk)
                on_bytes(here, total)


def _mark(partial: Path) -> Path:
    return partial.with_suffix(".etag")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(lock: Path, name: str, seen: dict[str, Any]) -> None:
    """The first time anything is right; later only the same."""
    known = _read(lock).get(name)
    if known and (known["bytes"], known["sha256"]) != (seen["bytes"], seen["sha256"]):
        raise ModelChangedError(
            f"{name} has {seen['bytes']} bytes and SHA-256 {seen['sha256'][:16]}…; {lock} says "
            f"{known['bytes']} bytes and {known['sha256'][:16]}…"
        )


def _note(lock: Path, name: str, entry: dict[str, Any]) -> None:
    known = _read(lock)
    known.setdefault(name, entry)
    partial = lock.with_suffix(".part")
    partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    partial.replace(lock)


def _read(lock: Path) -> dict[str, Any]:
    if not lock.exists():
        return {}
    try:
        known: dict[str, Any] = json.loads(lock.read_text())
    except ValueError as error:
        raise ModelDownloadError(f"{lock} can't be read: {error}") from error
    return known


def _put_in_place(fresh: Path, target: Path) -> None:
    """A worker that loads at this moment finds the old model or the new one."""
    if target.exists():
        target.rename(fresh.with_name("old"))
    fresh.rename(target)
