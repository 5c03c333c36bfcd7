"""Deletes uploads that no job uses: never submitted, or lists of deleted jobs.

A job uses an upload as a photo, as its list, or as a picture in its options. Photos and lists are
looked up one by one. Options that name uploads are read once, and before each deletion those added
since.
"""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from api.sources.source_policy import UPLOADS_PREFIX
from shared import job_store
from shared.database import Database
from shared.models import Item, Job
from shared.object_url import ObjectUrl
from shared.storage import Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

PAGE_UPLOADS = 250
PAGE_OPTIONS = 500

OVERLAP_MS = 600_000
"""Rows of the last minutes are read again, because an earlier row may be committed later."""


class AbandonedUploads:
    """One pass over all uploads; create a new object for the next pass."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._prefix = f"s3://{storage.bucket}/{UPLOADS_PREFIX}"
        self._in_options: set[str] = set()
        self._read_to: dict[type[Job] | type[Item], uuid.UUID | None] = {Job: None, Item: None}

    def remove(self, older_than: timedelta, *, go_on: Callable[[], bool]) -> None:
        """Delete unused uploads of at least this age while `go_on` returns true. Raises
        MattingError.
        """
        before = datetime.now(UTC) - older_than
        for keys in self._storage.list_older(UPLOADS_PREFIX, before):
            for start in range(0, len(keys), PAGE_UPLOADS):
                if not go_on():
                    return
                self._remove_page(keys[start : start + PAGE_UPLOADS])

    def _remove_page(self, keys: Sequence[str]) -> None:
        urls = {str(ObjectUrl(self._storage.bucket, key)): key for key in keys}
        self._read_options()
        with self._database.transaction() as session:
            named = job_store.sources_named_by_jobs(session, list(urls))
        abandoned = [key for url, key in urls.items() if url not in named | self._in_options]
        self._storage.delete_many(abandoned)
        if abandoned:
            log.info("uploads-removed", uploads=len(abandoned))

    def _read_options(self) -> None:
        """Read the uploads named in options that were not read yet."""
        for table, read_to in self._read_to.items():
            after = None if read_to is None else _shortly_before(read_to)
            while True:
                with self._database.transaction() as session:
                    page = job_store.uploads_in_options(
                        session, table, self._prefix, after=after, limit=PAGE_OPTIONS
                    )
                if page.last is None:
                    break
                self._in_options |= page.urls
                after = page.last
            self._read_to[table] = max(after, read_to) if after and read_to else after or read_to


def _shortly_before(row_id: uuid.UUID) -> uuid.UUID:
    """An id from some minutes earlier: a UUIDv7 begins with its time in ms."""
    return uuid.UUID(int=max(0, (row_id.int >> 80) - OVERLAP_MS) << 80)
