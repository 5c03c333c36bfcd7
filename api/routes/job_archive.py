"""All results of a job as one zip file, made while it is sent.

Nothing is stored for it, and memory does not grow with the sizes of the results: a few pieces are
read ahead, and no connection to the storage is held while the caller is slow.
"""

import io
import uuid
import zipfile
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from api.client import NamedItem, StoredFile, output_names
from api.http.auth import Caller
from api.resources import Resources
from shared import job_store
from shared.errors import (
    BusyError,
    RequestTooLargeError,
    ResultNotReadyError,
    SourceNotFoundError,
    TooManyCallsError,
)
from shared.jobs import ItemStatus, Verdict
from shared.models import Item, Job
from shared.options import Options

MAX_IMAGES = 20_000
"""Most images of a job: their names are held in memory, about 1 KiB of each."""

MAX_ARCHIVES = 8
"""Most archives that a process sends at a time; one key may have half of them."""

PAGE_ROWS = 1_000
PIECE_BYTES = 1024**2
AHEAD = 8
"""Files whose first piece is read ahead."""

READERS = 4

MISSING = "missing-results.txt"

_sending: Counter[uuid.UUID] = Counter()
"""Archives by API key."""


def archive(resources: Resources, caller: Caller, job: Job, review: str | None) -> Iterator[bytes]:
    """The zip file's bytes. Names are those of `matting download`.

    `review`: only images that are `accepted`, or `unflagged`. Raises RequestTooLargeError,
    BusyError, TooManyCallsError and ResultNotReadyError before the first byte.
    """
    if job.total > MAX_IMAGES:
        raise RequestTooLargeError(
            f"The job has {job.total:,} images; an archive has at most {MAX_IMAGES:,}. Fetch them"
            " by the URLs of `report.jsonl?include=urls`"
        )
    if _sending.total() >= MAX_ARCHIVES:
        raise BusyError("The service is sending as many archives as it can")
    if _sending[caller.api_key_id] >= MAX_ARCHIVES // 2:
        raise TooManyCallsError("The key has too many archives in progress")
    files = _files(resources, job, review)
    if not files:
        raise ResultNotReadyError("No image of the job has such a result yet")
    return _counted(caller.api_key_id, _zipped(resources, files, job.finished_at))


def _counted(api_key_id: uuid.UUID, pieces: Iterator[bytes]) -> Iterator[bytes]:
    _sending[api_key_id] += 1
    try:
        yield from pieces
    finally:
        _sending[api_key_id] -= 1
        if not _sending[api_key_id]:
            del _sending[api_key_id]


def _files(resources: Resources, job: Job, review: str | None) -> list[tuple[str, str]]:
    """Object key and name of each file, in the order of the source."""
    named: list[NamedItem] = []
    keys: list[list[str]] = []
    after = 0
    while True:
        with resources.database.transaction() as session:
            items = job_store.list_items(session, job.id, status=None, after=after, limit=PAGE_ROWS)
        if not items:
            break
        for item in items:
            named.append(_named(item, job))
            keys.append(_keys(item) if _is_wanted(item, review) else [])
        after = items[-1].position
    names = output_names(named)
    return [
        (key, name)
        for item_keys, item_names in zip(keys, names, strict=True)
        for key, name in zip(item_keys, item_names, strict=False)
    ]


def _named(item: Item, job: Job) -> NamedItem:
    """The fields that decide about the names, as the client has them."""
    outputs = [StoredFile(name=one["name"]) for one in item.outputs or []]  # type: ignore[typeddict-item]
    options = Options.model_validate(item.options or job.options)
    return NamedItem(name=item.name, result_format=options.format.extension, outputs=outputs)


def _keys(item: Item) -> list[str]:
    if item.result_key is None:
        return []
    return [one["key"] for one in item.outputs] if item.outputs else [item.result_key]


def _is_wanted(item: Item, review: str | None) -> bool:
    if item.status is not ItemStatus.SUCCEEDED:
        return False
    if review == "accepted":
        return item.verdict is Verdict.ACCEPT
    if review == "unflagged":
        return not item.needs_review or item.verdict is Verdict.ACCEPT
    return item.verdict is not Verdict.REJECT


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


def _zipped(
    resources: Resources, files: list[tuple[str, str]], finished_at: datetime | None
) -> Iterator[bytes]:
    """The archive. Pictures are compressed already, so they are stored as they are."""
    stamp = (finished_at or datetime.now(UTC)).timetuple()[:6]
    sink, missing = _Sink(), []
    with (
        ThreadPoolExecutor(READERS, "archive") as readers,
        zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed,
    ):
        for (key, name), first in _ahead(resources, files, readers):
            try:
                piece, total = first.result()
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
