"""Removes what is over: deleted and expired jobs with their objects, uploads that no job names,
objects of jobs that never came to be, old idempotency keys.

One process at a time does it. Objects go before rows: what a crash leaves is found again by the
rows and removed in the next round.
"""

import time
import uuid
from datetime import UTC, datetime, timedelta

from api.sources.source_policy import OWN_PREFIX, UPLOADS_PREFIX
from shared import job_store
from shared.database import Database, Session
from shared.object_url import ObjectUrl
from shared.periodic_task import PeriodicTask
from shared.settings import Settings
from shared.storage import LIST_PAGE_KEYS, Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

SWEEP_EVERY_S = 30.0
IN_USE_S = 2.0
"""The wait while workers still have images of a deleted job."""
LEASE_NAME = "sweep"
LEASE_S = 120.0
JOBS_PER_ROUND = 20
UPLOADS_EVERY_S = 6 * 3_600.0
"""How often all uploads are looked at."""

ORPHANS_EVERY_S = 6 * 3_600.0
"""How often all folders below `jobs/` are looked at."""
ORPHAN_AGE = timedelta(days=1)
"""The youngest object of a job that has no row must be older: a submission stores its files first
and writes its job last, and no request takes so long."""

DAY_S = 86_400


class Sweeper(PeriodicTask):
    """Sweeps now and then, and when a job was deleted."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        super().__init__("sweep")
        self._database = database
        self._storage = storage
        self._settings = settings
        self._owner = uuid.uuid4().hex
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
        settings = self._settings
        with self._database.transaction() as session:
            if not self._hold(session):
                return 0
            job_store.forget_submissions(session, older_than_s=settings.idempotency_ttl_s)
            if settings.retention_days:
                older_than_s = settings.retention_days * DAY_S
                job_store.expire_jobs(session, older_than_s=older_than_s)
            jobs = job_store.deleted_jobs(session, limit=JOBS_PER_ROUND)
            self._pause_s = IN_USE_S if job_store.deleted_in_use(session) else SWEEP_EVERY_S
        for number, job_id in enumerate(jobs):
            if self._stopping.is_set():
                return number
            self._remove(job_id)
            log.info("job-removed", job=str(job_id))
        if settings.retention_days and time.monotonic() >= self._uploads_at:
            self._uploads_at = time.monotonic() + UPLOADS_EVERY_S
            self._remove_abandoned(timedelta(days=settings.retention_days))
        if time.monotonic() >= self._orphans_at:
            self._orphans_at = time.monotonic() + ORPHANS_EVERY_S
            self.remove_orphans(datetime.now(UTC) - ORPHAN_AGE)
        return len(jobs)

    def remove_orphans(self, before: datetime) -> None:
        """What lies below `jobs/` and belongs to no row: the API ended between storing files and
        writing their job, or a worker wrote a result of a job that was removed. A folder goes when
        nothing in it was written since `before`.
        """
        for folders in filter(None, self._storage.list_folders(OWN_PREFIX)):
            ids = {job_id: folder for folder in folders if (job_id := _job_id(folder))}
            with self._database.transaction() as session:
                self._hold(session)
                known = job_store.existing_jobs(session, list(ids))
            for job_id in ids.keys() - known:
                self._remove_orphan(job_id, ids[job_id], before)

    def _remove_orphan(self, job_id: uuid.UUID, folder: str, before: datetime) -> None:
        every = list(self._storage.list_keys(folder))
        old = [key for page in self._storage.list_older(folder, before) for key in page]
        if len(old) < len(every) or self._stopping.is_set():
            return
        self._storage.delete_many(old)
        log.info("orphans-removed", job=str(job_id), objects=len(old))

    def _remove_abandoned(self, older_than: timedelta) -> None:
        """The uploads of that age that no job names: never submitted, or what a job's list was."""
        prefix = f"s3://{self._storage.bucket}/{UPLOADS_PREFIX}"
        before = datetime.now(UTC) - older_than
        for keys in filter(None, self._storage.list_older(UPLOADS_PREFIX, before)):
            urls = {str(ObjectUrl(self._storage.bucket, key)): key for key in keys}
            with self._database.transaction() as session:
                self._hold(session)
                needed = job_store.objects_named_by_jobs(session, list(urls), prefix)
            abandoned = [key for url, key in urls.items() if url not in needed]
            self._storage.delete_many(abandoned)
            if abandoned:
                log.info("uploads-removed", uploads=len(abandoned))

    def _remove(self, job_id: uuid.UUID) -> None:
        self._remove_uploads(job_id)
        place = ObjectUrl(self._storage.bucket, f"{OWN_PREFIX}{job_id}/")
        # What is listed is removed, so the first page is always the next.
        while keys := self._storage.list_page(place, after=None):
            self._storage.delete_many(keys)
            with self._database.transaction() as session:
                self._hold(session)
        with self._database.transaction() as session:
            job_store.remove_job(session, job_id)

    def _remove_uploads(self, job_id: uuid.UUID) -> None:
        """The presigned uploads that only this job names."""
        prefix, after = f"s3://{self._storage.bucket}/{UPLOADS_PREFIX}", 0
        with self._database.transaction() as session:
            job = job_store.load_job(session, job_id)
            listed = str(job.source.get("object", "")) if job else ""
            needed = job_store.sources_still_needed(session, [listed], but_for=job_id)
        if listed.startswith(prefix) and listed not in needed:
            self._storage.delete_many([ObjectUrl.parse(listed, self._storage.bucket).key])
        while True:
            with self._database.transaction() as session:
                found = job_store.sources_under(
                    session, job_id, prefix, after=after, limit=LIST_PAGE_KEYS
                )
                sources = [source for _, source in found]
                needed = job_store.sources_still_needed(session, sources, but_for=job_id)
            if not found:
                return
            after = found[-1][0]
            self._storage.delete_many(
                [
                    ObjectUrl.parse(source, self._storage.bucket).key
                    for source in sources
                    if source not in needed
                ]
            )

    def _hold(self, session: Session) -> bool:
        return job_store.acquire_leader_lease(
            session, LEASE_NAME, owner=self._owner, lease_s=LEASE_S
        )


def _job_id(folder: str) -> uuid.UUID | None:
    """The job that a folder below `jobs/` is of; None: the service did not make it."""
    try:
        return uuid.UUID(folder.removeprefix(OWN_PREFIX).removesuffix("/"))
    except ValueError:
        return None
