"""All results of a job as one zip file, made while it is sent.

Nothing is stored for it, and memory does not grow with the sizes of the results: a few pieces are
read ahead, and no connection to the storage is held while the caller is slow. Sizes and checksums
of the results are in the database, so the archive has a length and an ETag, and any range of it can
be sent (api.zip_layout). If a result is older than its checksum, the archive has none of these.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime

from api.client import NamedItem, StoredFile, output_names
from api.client.viewer_files import VIEWER_ENDING
from api.http.auth import Caller
from api.resources import Resources
from api.routes.archive_places import take_place
from api.routes.archived_viewers import named_viewers
from api.routes.job_report import items_of
from api.routes.streamed_zip import AHEAD, MISSING, PIECE_BYTES, readers, zipped
from api.schemas.responses import main_extension
from api.zip_layout import MAX_32, Entry, Span, ZipLayout
from shared.errors import (
    ImageError,
    RangeNotSatisfiableError,
    RequestTooLargeError,
    ResultNotReadyError,
    SourceNotFoundError,
)
from shared.jobs import ItemKind, ItemStatus, Verdict
from shared.models import Item, Job
from shared.options import Options

MAX_IMAGES = 20_000
"""Most images of a job: their names are held in memory, about 1 KiB of each."""

REVIEWS = ("accepted", "unflagged", "flagged", "pending", "rejected")
"""What `review` may choose: accepted results; those and what needs no review; marked ones; marked
ones without a verdict; rejected ones. None of them: all but rejected ones.
"""

GONE_S = 600.0
"""How long a result that was not in the storage is left out of archives."""

_gone: dict[str, float] = {}
"""Keys of results that were missing, and until when they are left out (monotonic)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which part of an archive a request asks for, by its headers."""

    byte_range: str | None = None
    if_range: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive, or a part of it."""

    pieces: Generator[bytes]
    let_go: Callable[[], None]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """Stop reading, and let the place go. Call it once the answer has ended, sent or not."""
        try:
            self.pieces.close()
        finally:
            self.let_go()


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the archive."""

    key: str
    name: str
    size_bytes: int | None
    crc32: int | None
    data: bytes | None = None
    """What is sent instead of the object."""


def archive(
    resources: Resources, caller: Caller, job: Job, review: str | None, wanted: Wanted
) -> Archive:
    """The zip file, or the range of it that is wanted. Names are those of `matting download`.

    `review`: see REVIEWS. Raises RequestTooLargeError, BusyError, TooManyCallsError,
    ResultNotReadyError and RangeNotSatisfiableError before the first byte.
    """
    if job.total > MAX_IMAGES:
        raise RequestTooLargeError(
            f"The job has {job.total:,} images; an archive has at most {MAX_IMAGES:,}. Fetch them"
            " by the URLs of `report.jsonl?include=urls`"
        )
    let_go = take_place(caller.api_key_id)
    try:
        return _archive(resources, job, review, wanted, let_go)
    except BaseException:
        let_go()
        raise


def _archive(
    resources: Resources,
    job: Job,
    review: str | None,
    wanted: Wanted,
    let_go: Callable[[], None],
) -> Archive:
    files = _files(resources, job, review)
    if not files:
        raise ResultNotReadyError("The job has no such result yet")
    layout = _layout(files, job.finished_at or job.created_at)
    if layout is None:
        pairs = [(file.key, file.name) for file in files]
        known = {file.key: file.data for file in files if file.data is not None}
        return Archive(pieces=zipped(resources, pairs, job.finished_at, known), let_go=let_go)
    start, stop = _range(wanted, layout)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(stop - start),
        "ETag": layout.etag,
    }
    partly = (start, stop) != (0, layout.size_bytes)
    if partly:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{layout.size_bytes}"
    return Archive(
        pieces=_laid_out(resources, layout, start, stop),
        let_go=let_go,
        status=206 if partly else 200,
        headers=headers,
    )


def _range(wanted: Wanted, layout: ZipLayout) -> tuple[int, int]:
    """First byte, and the one after the last (RFC 9110, 14.2). Several ranges, and a range of
    another version, are answered with the whole. Raises RangeNotSatisfiableError.
    """
    size = layout.size_bytes
    match = re.fullmatch(r"bytes=(\d{0,19})-(\d{0,19})", (wanted.byte_range or "").strip())
    if match is None or match.group(0) == "bytes=-":
        return 0, size
    if wanted.if_range is not None and wanted.if_range.strip() != layout.etag:
        return 0, size
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):  # no range at all
            return 0, size
    if start >= size:
        raise RangeNotSatisfiableError(f"The archive has {size:,} bytes")
    return start, stop


def _layout(files: list[_File], stamp: datetime) -> ZipLayout | None:
    """None: the checksum of a file is not known."""
    moment = time.monotonic()
    for key, until in list(_gone.items()):  # other requests change it at the same time
        if until < moment:
            _gone.pop(key, None)
    gone = set(_gone)
    there = [file for file in files if file.key not in gone]
    entries = []
    for file in there:
        if file.data is not None:
            entries.append(Entry.of_text(file.name, file.data.decode()))
            continue
        if file.crc32 is None or file.size_bytes is None or file.size_bytes >= MAX_32:
            return None
        entries.append(
            Entry(name=file.name, key=file.key, size_bytes=file.size_bytes, crc32=file.crc32)
        )
    if missing := [file.name for file in files if file.key in gone]:
        entries.append(Entry.of_text(MISSING, "\n".join(missing) + "\n"))
    return ZipLayout(entries, stamp)


def _laid_out(resources: Resources, layout: ZipLayout, start: int, stop: int) -> Generator[bytes]:
    """A range of the archive. If a result is missing, the transfer ends too early, and the next
    one, which has another ETag, names it in MISSING instead.
    """
    waiting: deque[tuple[Span | None, Future[bytes] | bytes]] = deque()
    with readers() as threads:
        for part in layout.pieces(start, stop, longest=PIECE_BYTES):
            if isinstance(part, Span):
                waiting.append((part, threads.submit(_read, resources, part)))
            else:
                waiting.append((None, part))
            while len(waiting) > AHEAD:
                yield _taken(*waiting.popleft())
        while waiting:
            yield _taken(*waiting.popleft())


def _read(resources: Resources, span: Span) -> bytes:
    storage = resources.storage
    return storage.part(storage.bucket, span.key, span.start, span.stop - span.start)


def _taken(span: Span | None, piece: Future[bytes] | bytes) -> bytes:
    """Raises SourceNotFoundError if an object is missing or has another size, StorageError."""
    if span is None or isinstance(piece, bytes):
        assert isinstance(piece, bytes)
        return piece
    try:
        data = piece.result()
        if len(data) != span.stop - span.start:
            raise SourceNotFoundError(f"{span.key} has another size")
    except ImageError:
        _gone[span.key] = time.monotonic() + GONE_S
        raise
    return data


def _files(resources: Resources, job: Job, review: str | None) -> list[_File]:
    """The files, in the order of the source. Raises JobNotFoundError."""
    named: list[NamedItem] = []
    listed: list[tuple[str, ItemKind]] = []
    usual = Options.model_validate(job.options)
    stored: list[list[tuple[str, int | None, int | None]]] = []
    for item in items_of(resources, job):
        named.append(_named(item, usual))
        listed.append((str(item.id), item.kind))
        stored.append(_stored(item) if _is_wanted(item, review) else [])
    names = output_names(named)
    mains = {item_id: item_names[0] for (item_id, _), item_names in zip(listed, names, strict=True)}
    viewers = [
        (key, name)
        for (_, kind), of_item, item_names in zip(listed, stored, names, strict=True)
        for (key, *_), name in zip(of_item, item_names, strict=False)
        if kind is ItemKind.TURNTABLE and name.endswith(VIEWER_ENDING)
    ]
    known = named_viewers(resources, viewers, mains)
    return [
        _File(key, name, size_bytes, crc32, known.get(key))
        for of_item, item_names in zip(stored, names, strict=True)
        for (key, size_bytes, crc32), name in zip(of_item, item_names, strict=False)
    ]


def _named(item: Item, usual: Options) -> NamedItem:
    """The fields that decide about the names, as the client has them. `usual`: the options of
    images without own ones.
    """
    outputs = [StoredFile(name=one["name"]) for one in item.outputs or []]  # type: ignore[typeddict-item]
    options = Options.model_validate(item.options) if item.options else usual
    extension = main_extension(item, options)
    return NamedItem(name=item.name, result_format=extension, outputs=outputs)


def _stored(item: Item) -> list[tuple[str, int | None, int | None]]:
    """Key, size in bytes and CRC-32 of each file."""
    if item.result_key is None:
        return []
    if not item.outputs:
        return [(item.result_key, item.output_bytes, item.result_crc32)]
    return [(one["key"], one["bytes"], one.get("crc32")) for one in item.outputs]


def _is_wanted(item: Item, review: str | None) -> bool:
    if item.status is not ItemStatus.SUCCEEDED:
        return False
    accepted, rejected = item.verdict is Verdict.ACCEPT, item.verdict is Verdict.REJECT
    wanted = {
        None: not rejected,
        "accepted": accepted,
        "unflagged": accepted or (not item.needs_review and not rejected),
        "flagged": item.needs_review,
        "pending": item.needs_review and item.verdict is None,
        "rejected": rejected,
    }
    return wanted[review]
