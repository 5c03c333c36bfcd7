"""Sources that are listed in the background, as pages of items, from where listing broke off."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from api.sources.archive_disk import ArchiveDisk
from api.sources.archives import Archive
from api.sources.manifests import read_rows
from api.sources.rows import RowReader
from api.sources.source_policy import OWN_PREFIX, SourcePolicy, name_under
from shared.errors import BadArchiveError, BadManifestError
from shared.job_store import NewItem
from shared.models import Job
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage

ROWS_PER_PAGE = 5_000
PHOTOS_PER_PAGE = 64
"""Of a zip file: stored side by side, then noted."""

STORE_THREADS = 8


@dataclass(frozen=True, slots=True)
class Page:
    """Some items of a source, and how far it has been listed with them."""

    items: list[NewItem]
    cursor: str


def pages(
    job: Job,
    storage: Storage,
    settings: Settings,
    sources: Sequence[str] | None,
    disk: ArchiveDisk,
) -> Iterator[Page]:
    """The pages of a job's source behind its cursor. `sources`: what its key may name.

    Raises what the storage and the disk do; BadManifestError, BadArchiveError for what can't be
    read.
    """
    policy = SourcePolicy(settings, job.api_key_id, sources)
    after = job.expansion_cursor
    source = job.source
    if source["kind"] == "prefix":
        return _prefix_pages(storage, ObjectUrl.parse(source["prefix"], ""), after)
    place = ObjectUrl.parse(source["object"], settings.s3_bucket)
    if source["kind"] == "zip":
        return _zip_pages(job, storage, settings, place, int(after or 0), disk)
    reader = RowReader(policy, Options.model_validate(job.options))
    return _row_pages(storage, place, reader, int(after or 0))


def rows_as_file(rows: Iterator[dict[str, Any]]) -> IO[bytes]:
    """Rows of a request as a manifest, on disk when they are many."""
    file = tempfile.SpooledTemporaryFile(8 * 1024**2)  # noqa: SIM115 - the caller closes it
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    file.seek(0)
    return file


def _prefix_pages(storage: Storage, source: ObjectUrl, after: str | None) -> Iterator[Page]:
    while keys := storage.list_page(source, after=after):
        items = [
            NewItem(name=name_under(source.key, key), source=f"s3://{source.bucket}/{key}")
            for key in keys
            if not key.endswith("/")  # the folder markers that consoles make
        ]
        after = keys[-1]
        yield Page(items, after)


def _row_pages(storage: Storage, place: ObjectUrl, reader: RowReader, after: int) -> Iterator[Page]:
    rows = islice(read_rows(storage.stream(place.bucket, place.key)), after, None)
    number = after
    while True:
        items: list[NewItem] = []
        try:
            for row in islice(rows, ROWS_PER_PAGE):
                number += 1
                items.append(reader.item(row, number))
        except BadManifestError:
            if items:  # what came before the damage stays
                yield Page(items, str(number))
            raise
        if not items:
            return
        yield Page(items, str(number))


def _zip_pages(
    job: Job,
    storage: Storage,
    settings: Settings,
    place: ObjectUrl,
    after: int,
    disk: ArchiveDisk,
) -> Iterator[Page]:
    size, limit = storage.size(place.bucket, place.key), settings.max_archive_bytes
    if size > limit:
        raise BadArchiveError(f"The zip file has {size:,} bytes; the limit is {limit:,}")
    with (
        disk.file(size) as file,
        ThreadPoolExecutor(STORE_THREADS) as pool,
    ):
        _fetch(storage, place, file, size)
        storing: list[Future[None]] = []

        def store(key: str, data: bytes) -> str:
            storing.append(pool.submit(storage.put, key, data, "application/octet-stream"))
            return f"s3://{storage.bucket}/{key}"

        items = Archive(file, settings).items(after=after, key_of=_input_key(job), store=store)
        while page := list(islice(items, PHOTOS_PER_PAGE)):
            for future in storing:
                future.result()
            storing.clear()
            after += len(page)
            yield Page(page, str(after))


def _input_key(job: Job) -> Callable[[int], str]:
    return lambda number: f"{OWN_PREFIX}{job.id}/inputs/{number:06d}"


def _fetch(storage: Storage, place: ObjectUrl, file: IO[bytes], size: int) -> None:
    """`size`: what its disk space was reserved for."""
    left = size
    for chunk in storage.stream(place.bucket, place.key):
        left -= len(chunk)
        if left < 0:
            raise BadArchiveError("The zip file was replaced by a larger one meanwhile")
        file.write(chunk)
