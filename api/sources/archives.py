"""Zip files of photos: unpacked photo by photo into the storage, within limits.

Nothing in a zip file is trusted: sizes are counted while unpacking, names become plain relative
paths, and an entry that cannot be unpacked fails alone.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO, Protocol

from api.sources.source_policy import plain_name
from shared.errors import BadArchiveError, FileTooLargeError, MattingError
from shared.job_store import NewItem
from shared.settings import Settings

MAX_DIRECTORY_BYTES = 64 * 1024**2
"""Largest list of entries, which is read into memory; enough for 600,000 names."""

READ_BYTES = 1024**2

LOCAL_HEADER_BYTES = 30
"""The least that precedes an entry's bytes (APPNOTE 4.3.7)."""

LEFT_OUT = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
"""Files and folders that operating systems add to archives; names that begin with a dot are
ignored, too.
"""

PHOTOS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Extensions of photos; other files in an archive are ignored."""


class PhotoStore(Protocol):
    """Where unpacked photos are stored."""

    def make_room(self, size_bytes: int) -> None:
        """Wait until a photo of this size fits into memory beside those being stored."""

    def put(self, key: str, data: bytearray) -> str:
        """Store a photo; returns its source URL."""


class Archive:
    """An open zip file."""

    def __init__(self, file: IO[bytes], settings: Settings) -> None:
        """Raises BadArchiveError."""
        _check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise BadArchiveError(f"The zip file is damaged: {error}") from error
        _refuse_overlaps(self._zip)
        self._settings = settings
        self._photos = [entry for entry in self._zip.infolist() if _is_photo(entry)]
        limit = settings.max_keys_per_job
        if len(self._photos) > limit:
            raise BadArchiveError(f"It has {len(self._photos):,} photos; the limit is {limit:,}")

    def __len__(self) -> int:
        return len(self._photos)

    def items(
        self, *, after: int, key_of: Callable[[int], str], store: PhotoStore
    ) -> Iterator[NewItem]:
        """Unpack and store the photos after the first `after`. Raises what `store` raises, and
        BadArchiveError if they are too large in total.
        """
        left = self._settings.max_archive_bytes
        for number, entry in enumerate(self._photos, 1):
            if number <= after:
                continue
            name = plain_name(entry.filename)[:1_024]
            # zipfile unpacks at most the size in the entry
            store.make_room(min(entry.file_size, self._settings.max_image_bytes + READ_BYTES))
            try:
                data = self._read(entry)
            except MattingError as error:
                yield NewItem(name=name, source=f"zip:{number}", error=error)
                continue
            left -= len(data)
            if left < 0:
                limit = self._settings.max_archive_bytes
                raise BadArchiveError(f"Unpacked it has more than the limit of {limit:,} bytes")
            source = store.put(key_of(number), data)
            del data  # release the photo before the next one is unpacked
            yield NewItem(name=name, source=source)

    def _read(self, entry: zipfile.ZipInfo) -> bytearray:
        """Raises FileTooLargeError or BadArchiveError."""
        if entry.flag_bits & 0x1:
            raise BadArchiveError(f"{entry.filename!r} is locked with a password")
        limit = self._settings.max_image_bytes
        data = bytearray()
        try:
            with self._zip.open(entry) as stream:
                while chunk := stream.read(READ_BYTES):
                    data += chunk
                    if len(data) > limit:
                        raise FileTooLargeError(f"The file has more than {limit:,} bytes")
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
            raise BadArchiveError(f"{entry.filename!r} can't be unpacked: {error}") from error
        except (NotImplementedError, RuntimeError) as error:  # an unknown compression method
            raise BadArchiveError(f"{entry.filename!r} can't be unpacked: {error}") from error
        return data


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Refuse a zip file whose entries share bytes. 100 kB in which a thousand entries share one
    photo unpack to 20 GB. Python's own check came after 3.11.7 and compares only what it reads.
    """
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    starts = [entry.header_offset for entry in entries[1:]] + [archive.start_dir]
    for entry, following in zip(entries, starts, strict=False):
        if entry.header_offset + LOCAL_HEADER_BYTES + entry.compress_size > following:
            raise BadArchiveError("Entries of the zip file share the same bytes")


def _is_photo(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
    hidden = any(
        (part.startswith(".") and part != "..") or part.lower() in LEFT_OUT for part in parts
    )
    suffix = PurePosixPath(parts[-1]).suffix.lower() if parts else ""
    return not entry.is_dir() and not hidden and suffix in PHOTOS


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a list of entries that does not fit into memory, before zipfile reads it."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 65_536 - 22 - 76))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise BadArchiveError("The file is no zip file, or was cut")
    directory = struct.unpack_from("<L", tail, end + 12)[0]
    wide = tail.rfind(b"PK\6\6", 0, end)
    if directory == 0xFFFFFFFF and wide >= 0 and len(tail) >= wide + 48:
        directory = struct.unpack_from("<Q", tail, wide + 40)[0]
    if directory > min(size, MAX_DIRECTORY_BYTES):
        raise BadArchiveError("Its list of entries is damaged, or far too long")
