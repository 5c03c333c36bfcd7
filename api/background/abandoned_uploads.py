"""Deletes uploads that nobody uses: never submitted, or lists of deleted jobs.

A job uses an upload as a photo, as its list, or as a picture in its options, and so does a watch.
Photos and lists are looked up one by one.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from api.background.named_uploads import NamedUploads
from api.sources.source_policy import UPLOADS_PREFIX
from shared import job_store
from shared.database import Database
from shared.object_url import ObjectUrl
from shared.storage import Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

PAGE_UPLOADS = 250


class AbandonedUploads:
    """One pass over all uploads; create a new object for the next pass."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._in_options = NamedUploads(database, storage)

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
        in_options = self._in_options.among(urls)
        with self._database.transaction() as session:
            named = job_store.sources_named_by_jobs(session, list(urls))
        abandoned = [key for url, key in urls.items() if url not in named and url not in in_options]
        self._storage.delete_many(abandoned)
        if abandoned:
            log.info("uploads-removed", uploads=len(abandoned))
