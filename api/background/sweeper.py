"""Deletes expired and deleted jobs with their objects, uploads that no job uses, objects without a
job, and old idempotency keys.

One process at a time does this. It deletes objects before rows, so the next round finds by the rows
what a crash left behind.
"""

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from api.background.abandoned_uploads import AbandonedUploads
from api.background.named_uploads import NamedUploads
from api.background.orphaned_objects import ORPHAN_AGE, remove_orphans
from api.background.put_aside import PutAside
from api.sources.source_policy import OWN_PREFIX, UPLOADS_PREFIX
from shared import job_store
from shared.database import Database
from shared.leadership import Leadership
from shared.object_url import ObjectUrl
from shared.periodic_task import PeriodicTask
from shared.settings import Settings
from shared.storage import Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

SWEEP_EVERY_S = 30.0
IN_USE_S = 2.0
"""The wait while workers still process images of a deleted job."""
LEASE_NAME = "sweep"
LEASE_S = 120.0
JOBS_PER_ROUND = 20
PAGE_ROWS = 250
"""Rows that one transaction removes."""
PAGE_SOURCES = 250
"""How many sources of a removed job are looked up in other jobs at a time."""
UPLOADS_EVERY_S = 6 * 3_600.0
"""How often all uploads are checked."""

ORPHANS_EVERY_S = 6 * 3_600.0
"""How often all folders below `jobs/` are checked."""

DAY_S = 86_400


class Sweeper(PeriodicTask):
    """Sweeps regularly, and after a job was deleted."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        super().__init__("sweep")
        self._database = database
        self._storage = storage
        self._settings = settings
        self._leadership = Leadership(database, LEASE_NAME, lease_s=LEASE_S)
        self._put_aside = PutAside("job-removal")
        self._in_options = NamedUploads(database, storage)
        self._pause_s = SWEEP_EVERY_S
        self._uploads_at = 0.0
        self._orphans_at = 0.0

    def round(self) -> float:
        """Sweep until little is left."""
        while self.sweep() == JOBS_PER_ROUND and not self._stopping.is_set():
            pass
        return self._pause_s

    def sweep(self) -> int:
        """One round; returns how many jobs were removed. Raises MattingError."""
        if not self._leadership.held():
            return 0
        self._forget_submissions()
        jobs = self._due_jobs()
        removed = 0
        for job_id in jobs:
            if self._stopping.is_set() or not self._leadership.held():
                return removed
            gone = None
            with self._put_aside.on_failure(job_id):
                gone = self._remove(job_id)
            if gone:
                removed += 1
                log.info("job-removed", job=str(job_id))
            elif gone is False:  # others need not wait for it
                self._put_aside.wait(job_id, IN_USE_S)
        retention_days = self._settings.retention_days
        if retention_days and time.monotonic() >= self._uploads_at:
            self._uploads_at = time.monotonic() + UPLOADS_EVERY_S
            abandoned = AbandonedUploads(self._database, self._storage)
            abandoned.remove(timedelta(days=retention_days), go_on=self._leadership.held)
        if time.monotonic() >= self._orphans_at:
            self._orphans_at = time.monotonic() + ORPHANS_EVERY_S
            before = datetime.now(UTC) - ORPHAN_AGE
            remove_orphans(self._database, self._storage, before, go_on=self._leadership.held)
        return removed

    def _forget_submissions(self) -> None:
        forgotten = PAGE_ROWS
        while forgotten == PAGE_ROWS and self._leadership.held() and not self._stopping.is_set():
            with self._database.transaction() as session:
                forgotten = job_store.forget_submissions(
                    session, older_than_s=self._settings.idempotency_ttl_s, limit=PAGE_ROWS
                )

    def _due_jobs(self) -> list[uuid.UUID]:
        """The next jobs to remove: first those that callers deleted, then expired ones. So a
        requested deletion does not wait for a backlog of old jobs.
        """
        with self._database.transaction() as session:
            waiting = self._put_aside.jobs()
            deleted = job_store.deleted_jobs(session, limit=JOBS_PER_ROUND, but_for=waiting)
            room = JOBS_PER_ROUND - len(deleted.removable)
            if self._settings.retention_days and room:
                older_than_s = self._settings.retention_days * DAY_S
                job_store.expire_jobs(session, older_than_s=older_than_s, limit=room)
                deleted = job_store.deleted_jobs(session, limit=JOBS_PER_ROUND, but_for=waiting)
        self._pause_s = IN_USE_S if deleted.in_use else SWEEP_EVERY_S
        return deleted.removable

    def _remove(self, job_id: uuid.UUID) -> bool:
        """Remove a job after the versions of its items; False: a worker still makes one of them."""
        if not self._remove_versions(job_id):
            self._pause_s = IN_USE_S
            return False
        self._remove_uploads(job_id)
        place = ObjectUrl(self._storage.bucket, f"{OWN_PREFIX}{job_id}/")
        # Listed objects are deleted, so the first page is always the next.
        while keys := self._storage.list_page(place, after=None):
            self._storage.delete_many(keys)
            self._leadership.held()
        for remove in (job_store.remove_places, job_store.remove_groups):
            removed = PAGE_ROWS
            while removed == PAGE_ROWS:
                with self._database.transaction() as session:
                    removed = remove(session, job_id, limit=PAGE_ROWS)
                self._leadership.held()
        after: int | None = 0
        while after is not None:
            with self._database.transaction() as session:
                items = job_store.remove_items(session, job_id, limit=PAGE_ROWS, after=after)
            after = items[-1] if len(items) == PAGE_ROWS else None
            self._leadership.held()
        with self._database.transaction() as session:
            job_store.remove_job(session, job_id)
        return True

    def _remove_versions(self, job_id: uuid.UUID) -> bool:
        """False: a worker still makes a version of one of the job's items."""
        while True:
            with self._database.transaction() as session:
                versions = job_store.stop_versions(session, job_id, limit=JOBS_PER_ROUND)
            if versions.in_use:
                return False
            if not versions.removable:
                return True
            for version in versions.removable:
                if not self._remove(version):  # it is found again at once
                    return False

    def _remove_uploads(self, job_id: uuid.UUID) -> None:
        """The presigned uploads that only this job names. One that other options name is left: it
        goes with those that nobody uses.
        """
        with self._database.transaction() as session:
            job = job_store.load_job(session, job_id)
        listed = str(job.source.get("object", "")) if job else ""
        self._remove_unneeded([listed], job_id)
        after = 0
        while True:
            with self._database.transaction() as session:
                found = job_store.sources_of(session, job_id, after=after, limit=PAGE_SOURCES)
            if not found:
                return
            after = found[-1][0]
            self._remove_unneeded([source for _, source in found], job_id)
            self._leadership.held()

    def _remove_unneeded(self, sources: Sequence[str], job_id: uuid.UUID) -> None:
        prefix = f"s3://{self._storage.bucket}/{UPLOADS_PREFIX}"
        uploads = [source for source in sources if source.startswith(prefix)]
        if not uploads:
            return
        in_options = self._in_options.among(uploads, but_for=job_id)
        with self._database.transaction() as session:
            needed = job_store.sources_still_needed(session, uploads, but_for=job_id)
        self._storage.delete_many(
            [
                ObjectUrl.parse(source, self._storage.bucket).key
                for source in uploads
                if source not in needed and source not in in_options
            ]
        )
