"""The bytes of a zip file of stored entries, known before the first of them is read.

Sizes and CRC-32 of all files are known, so the place of every byte is, and any range of the archive
can be sent. Fields and their order are those of PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.
"""

import hashlib
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

MAX_32 = 0xFFFFFFFF
MAX_16 = 0xFFFF

UNIX = 3
READABLE = 0o644 << 16
"""External attributes: `rw-r--r--` where Unix reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of the archive."""

    name: str
    size_bytes: int
    """Below 4 GiB."""
    crc32: int
    key: str | None = None
    """The object with its bytes; None: they are `data`."""
    data: bytes = b""

    @classmethod
    def of_text(cls, name: str, text: str) -> "Entry":
        """A file with this text."""
        data = text.encode()
        return cls(name=name, size_bytes=len(data), crc32=zlib.crc32(data), data=data)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of an object."""

    key: str
    start: int
    stop: int


class ZipLayout:
    """Where each byte of the archive comes from."""

    def __init__(self, entries: Sequence[Entry], stamp: datetime) -> None:
        """`stamp`: the time of all entries, to two seconds."""
        self._parts: list[bytes | Entry] = []
        self._starts: list[int] = []
        self.size_bytes = 0
        stamped = stamp.timetuple()[:6]
        directory = bytearray()
        for entry in entries:
            info = zipfile.ZipInfo(entry.name, stamped)
            info.CRC, info.file_size = entry.crc32, entry.size_bytes
            info.compress_size = entry.size_bytes
            info.create_system = UNIX
            header = info.FileHeader(zip64=False)
            directory += _directory_entry(header, entry, self.size_bytes)
            self._add(header, len(header))
            self._add(entry if entry.key is not None else entry.data, entry.size_bytes)
        start = self.size_bytes
        self._add(bytes(directory), len(directory))
        end = _end(len(entries), len(directory), start)
        self._add(end, len(end))
        told = repr([(one.name, one.key, one.size_bytes, one.crc32) for one in entries])
        digest = hashlib.blake2b(f"{stamped} {told}".encode(), digest_size=16)
        self.etag = f'"{digest.hexdigest()}"'
        """Changes with any byte of the archive."""

    def _add(self, part: bytes | Entry, size_bytes: int) -> None:
        if size_bytes:
            self._parts.append(part)
            self._starts.append(self.size_bytes)
            self.size_bytes += size_bytes

    def pieces(self, start: int, stop: int, *, longest: int) -> Iterator[bytes | Span]:
        """The bytes from `start` to before `stop`. Spans have at most `longest` bytes."""
        index = bisect_right(self._starts, start) - 1
        while start < stop:
            part, begins = self._parts[index], self._starts[index]
            size = len(part) if isinstance(part, bytes) else part.size_bytes
            ends = min(stop, begins + size)
            if isinstance(part, bytes):
                yield part[start - begins : ends - begins]
            else:
                assert part.key is not None
                for at in range(start, ends, longest):
                    yield Span(part.key, at - begins, min(at + longest, ends) - begins)
            start, index = ends, index + 1


def _directory_entry(header: bytes, entry: Entry, offset: int) -> bytes:
    """4.3.12, from the entry's local header (4.3.7)."""
    (flags, method, time, date) = struct.unpack_from("<4H", header, 6)
    name = header[30:]
    extra = b"" if offset < MAX_32 else struct.pack("<HHQ", 1, 8, offset)
    needs = 45 if extra else 20
    fixed = struct.pack(
        "<4sBBHHHHHLLLHHHHHLL",
        b"PK\x01\x02",
        needs,
        UNIX,
        needs,
        flags,
        method,
        time,
        date,
        entry.crc32,
        entry.size_bytes,
        entry.size_bytes,
        len(name),
        len(extra),
        0,  # length of the comment
        0,  # disk
        0,  # internal attributes
        READABLE,
        min(offset, MAX_32),
    )
    return fixed + name + extra


def _end(entries: int, directory_bytes: int, start: int) -> bytes:
    """4.3.14 to 4.3.16: the end records, the first two of them only for large archives."""
    large = b""
    if entries >= MAX_16 or start >= MAX_32 or directory_bytes >= MAX_32:
        large = struct.pack(
            "<4sQHHLLQQQQ",
            b"PK\x06\x06",
            44,
            45,
            45,
            0,
            0,
            entries,
            entries,
            directory_bytes,
            start,
        ) + struct.pack("<4sLQL", b"PK\x06\x07", 0, start + directory_bytes, 1)
    count = min(entries, MAX_16)
    return large + struct.pack(
        "<4sHHHHLLH",
        b"PK\x05\x06",
        0,
        0,
        count,
        count,
        min(directory_bytes, MAX_32),
        min(start, MAX_32),
        0,
    )
