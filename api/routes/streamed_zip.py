"""A zip file of results that is made while it is sent, without knowing their checksums before, and
what both ways of sending an archive share.
"""

import io
import zipfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

from api.resources import Resources
from shared.errors import SourceNotFoundError

MISSING = "missing-results.txt"
"""The file that names results which were not in the storage."""

PIECE_BYTES = 1024**2

AHEAD = 8
"""Files whose first piece is read ahead."""

READERS = 4


class _Sink(io.RawIOBase):
    """Collects what the zip file's writer writes."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        """It can only be written."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Keep the bytes."""
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        written = bytes(self._written)
        self._written.clear()
        return written


def zipped(
    resources: Resources,
    files: list[tuple[str, str]],
    finished_at: datetime | None,
    known: Mapping[str, bytes] = {},
) -> Generator[bytes]:
    """The archive. Pictures are compressed already, so they are stored as they are. `known`: the
    content of files that are not read, by their keys.
    """
    stamp = (finished_at or datetime.now(UTC)).timetuple()[:6]
    sink, missing = _Sink(), []
    with (
        readers() as threads,
        zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed,
    ):
        for (key, name), first in _ahead(resources, files, threads):
            try:
                piece, total = first.result()
                if key in known:
                    piece, total = known[key], len(known[key])
            except SourceNotFoundError:
                missing.append(name)
                continue
            info = zipfile.ZipInfo(name, stamp)
            info.external_attr = 0o644 << 16
            with packed.open(info, "w", force_zip64=total >= zipfile.ZIP64_LIMIT) as entry:
                entry.write(piece)
                sent = len(piece)
                while sent < total:
                    yield sink.take()
                    bucket = resources.storage.bucket
                    piece = resources.storage.part(bucket, key, sent, PIECE_BYTES)
                    entry.write(piece)
                    sent += len(piece)
            yield sink.take()
        if missing:
            packed.writestr(MISSING, "\n".join(missing) + "\n")
    yield sink.take()


Piece = Future[tuple[bytes, int]]


def _ahead(
    resources: Resources, files: list[tuple[str, str]], readers: ThreadPoolExecutor
) -> Iterator[tuple[tuple[str, str], Piece]]:
    """Each file with its first piece and its size, which are read some files ahead."""
    storage = resources.storage
    waiting: deque[tuple[tuple[str, str], Piece]] = deque()
    for file in files:
        first = readers.submit(storage.head, storage.bucket, file[0], PIECE_BYTES)
        waiting.append((file, first))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


@contextmanager
def readers() -> Iterator[ThreadPoolExecutor]:
    """Threads that read ahead. At the end nobody waits for a storage that hangs."""
    readers = ThreadPoolExecutor(READERS, "archive")
    try:
        yield readers
    finally:
        readers.shutdown(wait=False, cancel_futures=True)
