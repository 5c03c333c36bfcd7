"""Zip files of photos and clips: unpacked one by one into the storage, within limits.

Nothing in a zip file is trusted: sizes are counted while unpacking, names become plain relative
paths, and an entry that cannot be unpacked fails alone.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Protocol

from api.sources.source_policy import plain_name
from shared.clip_kinds import CLIP_ENDINGS, clip_kind
from shared.clips import is_named_like_clip
from shared.errors import (
    BadArchiveError,
    ClipTooLargeError,
    FileTooLargeError,
    HiddenFileError,
    MattingError,
    TransientError,
)
from shared.job_store import NewItem
from shared.photo_kinds import HEAD_BYTES, PHOTO_ENDINGS, photo_kind, refusal
from shared.photo_names import is_hidden, is_never_a_photo
from shared.settings import Settings

MAX_DIRECTORY_BYTES = 64 * 1024**2
"""Largest list of entries, which is read into memory."""

ENTRIES_PER_PHOTO = 3
"""Entries allowed for each photo that a job may have: macOS adds a hidden one to each, and folders
have one. The shortest ones take ten times as much memory as their bytes.
"""

READ_BYTES = 1024**2

LOCAL_HEADER_BYTES = 30
"""The least that precedes an entry's bytes (APPNOTE 4.3.7)."""

END_BYTES, LOCATOR_BYTES, WIDE_BYTES = 22, 20, 76
"""The record behind the list of entries, the one before it in ZIP64, and both of ZIP64 together
(APPNOTE 4.3.14 to 4.3.16).
"""

BOUNDED_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Python unpacks these piece by piece. Of the others it unpacks a megabyte in one step: a zip file
of 600 bytes, packed with bzip2, took 1.2 GB.
"""

UTF8_FLAG = 0x800
"""Bit of an entry's flags: its name is UTF-8. macOS writes UTF-8 and does not set it."""


class PhotoStore(Protocol):
    """Where unpacked photos are stored."""

    def make_room(self, size_bytes: int) -> None:
        """Wait until a photo of this size fits into memory beside those being stored."""

    def put(self, key: str, data: bytearray) -> str:
        """Store a photo; returns its source URL."""

    def upload(self, key: str, clip: "UnpackedClip") -> str:
        """Store a clip while it is unpacked; returns its source URL. Raises what its `read`
        raises.
        """


class Archive:
    """An open zip file."""

    def __init__(self, file: IO[bytes], settings: Settings) -> None:
        """Raises BadArchiveError."""
        _check_directory(file, ENTRIES_PER_PHOTO * settings.max_keys_per_job)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise BadArchiveError(f"The zip file is damaged: {error}") from error
        _refuse_overlaps(self._zip)
        self._settings = settings
        self._photos = [
            entry
            for entry in self._zip.infolist()
            if not entry.is_dir() and not _says_nothing(entry.filename)
        ]
        self._names = _names(self._photos)
        limit = settings.max_keys_per_job
        if len(self._photos) > limit:
            raise BadArchiveError(
                f"The zip file has {len(self._photos):,} files; the limit is {limit:,}"
            )

    def __len__(self) -> int:
        return len(self._photos)

    def items(
        self, *, after: int, key_of: Callable[[int], str], store: PhotoStore
    ) -> Iterator[NewItem]:
        """Unpack and store the files after the first `after`. One that is no photo becomes an
        item with an error, so that it is counted and named. Raises what `store` raises, and
        BadArchiveError if they are too large in total.
        """
        left = self._settings.max_archive_bytes
        for number, entry in enumerate(self._photos, 1):
            if number <= after:
                continue
            name = plain_name(self._names[number - 1])[:1_024]
            # zipfile unpacks at most the size in the entry
            store.make_room(min(entry.file_size, self._settings.max_image_bytes + READ_BYTES))
            try:
                if is_hidden(name):
                    raise HiddenFileError
                with self._opened(entry) as stream:
                    head = stream.read(HEAD_BYTES)
                    if is_named_like_clip(name) and clip_kind(head) is not None:
                        clip = UnpackedClip(head, stream, self._settings.max_clip_bytes, left)
                        try:
                            source = store.upload(key_of(number), clip)
                        finally:
                            left -= clip.bytes
                    else:
                        data = self._read(head, stream, entry.filename)
                        left -= len(data)
                        source = store.put(key_of(number), data) if left >= 0 else ""
                        del data  # release the photo before the next one is unpacked
            except TransientError:
                raise
            except MattingError as error:
                self._check_total(left)
                yield NewItem(name=name, source=f"zip:{number}", error=error)
                continue
            self._check_total(left)
            yield NewItem(name=name, source=source)

    def _check_total(self, left_bytes: int) -> None:
        if left_bytes < 0:
            limit = self._settings.max_archive_bytes
            raise BadArchiveError(f"Unpacked, the zip file exceeds the limit of {limit:,} bytes")

    @contextmanager
    def _opened(self, entry: zipfile.ZipInfo) -> Generator[IO[bytes]]:
        """The bytes of an entry. Raises BadArchiveError, also for what reading them raises."""
        if entry.flag_bits & 0x1:
            raise BadArchiveError(f"{entry.filename!r} is protected by a password")
        if entry.compress_type not in BOUNDED_METHODS:
            raise BadArchiveError(
                f"{entry.filename!r} is compressed by another method than Deflate"
            )
        try:
            with self._zip.open(entry) as stream:
                yield stream
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
            raise BadArchiveError(f"{entry.filename!r} can't be unpacked: {error}") from error
        except (NotImplementedError, RuntimeError) as error:  # an unknown compression method
            raise BadArchiveError(f"{entry.filename!r} can't be unpacked: {error}") from error

    def _read(self, head: bytes, stream: IO[bytes], name: str) -> bytearray:
        """The rest of a photo behind its `head`. Raises FileTooLargeError, and the `refusal` of
        another file.
        """
        _refuse_other_files(head, name)
        limit = self._settings.max_image_bytes
        data = bytearray(head)
        while chunk := stream.read(READ_BYTES):
            data += chunk
            if len(data) > limit:
                raise FileTooLargeError(f"The file has more than {limit:,} bytes")
        return data


class UnpackedClip:
    """A clip of a zip file, unpacked as it is read."""

    def __init__(self, head: bytes, stream: IO[bytes], max_bytes: int, left_bytes: int) -> None:
        """`head`: what was read of `stream`. `left_bytes`: how much of the limit of the whole zip
        file is left.
        """
        self._head = head
        self._stream = stream
        self._max_bytes = max_bytes
        self._left_bytes = left_bytes
        self.bytes = 0
        """How many were read."""

    def read(self, size: int | None = None) -> bytes:
        """The next `size` bytes, READ_BYTES without one; fewer at the end, or when the zip file's
        limit is exceeded. Raises ClipTooLargeError, and what its stream raises.
        """
        if self.bytes > self._left_bytes:
            return b""
        size = READ_BYTES if size is None or size < 0 else size
        head, self._head = self._head[:size], self._head[size:]
        piece = head + self._stream.read(size - len(head))
        self.bytes += len(piece)
        if self.bytes > self._max_bytes:
            raise ClipTooLargeError(f"The clip has more than {self._max_bytes:,} bytes")
        return piece


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Refuse a zip file whose entries share bytes. 100 kB in which a thousand entries share one
    photo unpack to 20 GB. Python's own check came after 3.11.7 and compares only what it reads.
    """
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    starts = [entry.header_offset for entry in entries[1:]] + [archive.start_dir]
    for entry, following in zip(entries, starts, strict=False):
        if entry.header_offset + LOCAL_HEADER_BYTES + entry.compress_size > following:
            raise BadArchiveError("Entries of the zip file overlap")


def _says_nothing(name: str) -> bool:
    """Whether it is a system file, or a hidden file that is not named like a photo or a clip."""
    is_wanted = PurePosixPath(name.lower()).suffix in PHOTO_ENDINGS | CLIP_ENDINGS
    return is_never_a_photo(name) or (is_hidden(name) and not is_wanted)


def _refuse_other_files(head: bytes, name: str) -> None:
    """Raise the `refusal` of a file that is no photo, before the rest of it is unpacked. A file
    that is named like a photo or a clip is one, damaged or not: a worker looks at it.
    """
    if photo_kind(head) or PurePosixPath(name.lower()).suffix in PHOTO_ENDINGS | CLIP_ENDINGS:
        return
    raise refusal(head)


def _names(entries: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names of entries. A name without the UTF-8 flag is UTF-8 if it can be; the others are in
    one old encoding that they share.
    """
    names = [entry.filename for entry in entries]
    old: dict[int, bytes] = {}
    for number, entry in enumerate(entries):
        if entry.flag_bits & UTF8_FLAG or entry.filename != entry.orig_filename:
            continue  # the name is told twice, and zipfile took the one in Unicode
        raw = entry.filename.encode("cp437")  # as zipfile has read it
        try:
            names[number] = raw.decode()
        except UnicodeDecodeError:
            old[number] = raw
    if _is_shift_jis(old.values()):
        names = [old[n].decode("cp932") if n in old else name for n, name in enumerate(names)]
    return names


def _is_shift_jis(names: Iterable[bytes]) -> bool:
    """Whether all the names are Japanese in Shift-JIS, as Windows writes it."""
    try:
        text = "\n".join(name.decode("cp932") for name in names)
    except UnicodeDecodeError:
        return False
    only_japanese = all(char.isascii() or _JAPANESE.match(char) for char in text)
    return only_japanese and bool(_JAPANESE_WORD.search(text))


_JAPANESE = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uff01-\uff5e\u2010-\u203b]")
_JAPANESE_WORD = re.compile("[\u3040-\u30ff\u4e00-\u9fff]{2}")
"""What names in Shift-JIS hold: no half-width kana, and somewhere two letters side by side. Western
names in CP437 look like single ones: `größe` like `gr疲e`.
"""


def _check_directory(file: IO[bytes], most_entries: int) -> None:
    """Refuse a list of entries that does not fit into memory, before zipfile reads it."""
    size = file.seek(0, 2)
    tail_begins = max(0, size - 65_536 - END_BYTES - WIDE_BYTES)
    file.seek(tail_begins)
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + END_BYTES:
        raise BadArchiveError("The file is not a zip file, or it is truncated")
    directory = struct.unpack_from("<L", tail, end + 12)[0]
    # zipfile takes the size in a ZIP64 record wherever there is one, also if the other one says
    # something else.
    if tail.startswith(b"PK\6\7", max(0, end - LOCATOR_BYTES)):
        end -= WIDE_BYTES
        if end < 0 or not tail.startswith(b"PK\6\6", end):
            raise BadArchiveError("The zip file's list of entries is damaged")
        directory = struct.unpack_from("<Q", tail, end + 40)[0]
    begin = tail_begins + end - directory
    if directory > MAX_DIRECTORY_BYTES or begin < 0:
        raise BadArchiveError("The zip file's list of entries is damaged or too long")
    file.seek(begin)
    if file.read(directory).count(b"PK\1\2") > most_entries:
        raise BadArchiveError(f"The zip file has more than {most_entries:,} entries")
    file.seek(0)
