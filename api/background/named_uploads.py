"""The uploads that options name: background pictures of jobs, of single images and of watches.

All rows that name any are read once, and before each look those added since.
"""

import uuid
from collections.abc import Iterable

from api.sources.source_policy import UPLOADS_PREFIX
from shared import job_store
from shared.database import Database
from shared.models import Item, Job, Watch
from shared.object_url import ObjectUrl
from shared.storage import Storage

PAGE_OPTIONS = 500

OVERLAP_MS = 600_000
"""Rows of the last minutes are read again, because an earlier row may be committed later."""


class NamedUploads:
    """What is named is remembered, also if its row is removed later; a new object forgets it. For
    one thread.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._prefix = str(ObjectUrl(storage.bucket, UPLOADS_PREFIX))
        self._named_by: dict[str, uuid.UUID | None] = {}
        """By `s3://…`: the job or watch that names it; None: several do."""
        self._read_to: dict[type[Job] | type[Item] | type[Watch], uuid.UUID | None] = {
            Job: None,
            Item: None,
            Watch: None,
        }

    def among(self, uploads: Iterable[str], *, but_for: uuid.UUID | None = None) -> set[str]:
        """Those of the uploads (`s3://…`) that options name now; not those that only this job's
        options name. Raises DatabaseError.
        """
        self._read()
        return {
            one
            for one in uploads
            if one in self._named_by
            and (self._named_by[one] is None or self._named_by[one] != but_for)
        }

    def _read(self) -> None:
        for table, read_to in self._read_to.items():
            after = None if read_to is None else _shortly_before(read_to)
            while True:
                with self._database.transaction() as session:
                    page = job_store.uploads_in_options(
                        session, table, self._prefix, after=after, limit=PAGE_OPTIONS
                    )
                if page.last is None:
                    break
                for url, by in page.named:
                    self._named_by[url] = by if self._named_by.get(url, by) == by else None
                after = page.last
            self._read_to[table] = max(after, read_to) if after and read_to else after or read_to


def _shortly_before(row_id: uuid.UUID) -> uuid.UUID:
    """An id from some minutes earlier: a UUIDv7 begins with its time in ms."""
    return uuid.UUID(int=max(0, (row_id.int >> 80) - OVERLAP_MS) << 80)
