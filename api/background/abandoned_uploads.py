"""Removes uploads that no job names: never submitted, or what a job's list was.

An upload is named as a photo, as a job's list, or as a picture in options. Photos and lists are
looked up one by one. Options are read through once, those alone that name an upload, and before
every removal what was added since.
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
"""Rows of the last minutes are read again: what was written first may be committed later."""


class AbandonedUploads:
    """One look at all uploads; make a new one for the next."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._prefix = f"s3://{storage.bucket}/{UPLOADS_PREFIX}"
        self._in_options: set[str] = set()
        self._read_to: dict[type[Job] | type[Item], uuid.UUID | None] = {Job: None, Item: None}

    def remove(self, older_than: timedelta, *, go_on: Callable[[], bool]) -> None:
        """Remove those of that age, as long as `go_on` says so. Raises MattingError."""
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
        """What options name that were not read yet."""
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
    """An id of some minutes before: a UUIDv7 begins with its time in ms."""
    return uuid.UUID(int=max(0, (row_id.int >> 80) - OVERLAP_MS) << 80)
