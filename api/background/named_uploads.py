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

MOST_NAMES = 20
"""Of the jobs and watches that name one upload, so many are known, the newest. A shop may name one
picture in each of its jobs.
"""


class NamedUploads:
    """What is named is remembered, and by whom: an upload whose jobs and watches are all deleted is
    no longer named. For one thread.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._prefix = str(ObjectUrl(storage.bucket, UPLOADS_PREFIX))
        self._named_by: dict[str, set[uuid.UUID]] = {}
        """By `s3://…`: the jobs and watches that name it."""
        self._more: set[str] = set()
        """Those that more than MOST_NAMES name, or did. They stay until a new object looks."""
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
        named = {one: self._named_by[one] - {but_for} for one in uploads if one in self._named_by}
        with self._database.transaction() as session:
            there = job_store.not_deleted(session, set().union(*named.values()))
        return {one for one, by in named.items() if one in self._more or by & there}

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
                    self._note(url, by)
                after = page.last
            self._read_to[table] = max(after, read_to) if after and read_to else after or read_to

    def _note(self, url: str, by: uuid.UUID) -> None:
        named_by = self._named_by.setdefault(url, set())
        named_by.add(by)
        if len(named_by) > MOST_NAMES:
            named_by.remove(min(named_by))
            self._more.add(url)


def _shortly_before(row_id: uuid.UUID) -> uuid.UUID:
    """An id from some minutes earlier: a UUIDv7 begins with its time in ms."""
    return uuid.UUID(int=max(0, (row_id.int >> 80) - OVERLAP_MS) << 80)
