"""Lists the sources of jobs in the background, page by page, each page one transaction.

How far it came stands in the job's row, so it goes on after a restart where it was; a page that is
listed twice adds nothing, because the same source twice in a job is one item. Jobs take turns, so a
small one does not wait for the millions of another. One process lists a job: it holds a lease,
which a second thread renews, because a page may take long (a zip file is fetched before its first).
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from api.sources.archive_disk import ArchiveDisk
from api.sources.listing import Page, pages
from api.sources.source_policy import UPLOADS_PREFIX, attached_key
from shared import job_store
from shared.database import Database
from shared.errors import (
    DiskFullError,
    EmptySourceError,
    ImageError,
    MattingError,
    RequestError,
)
from shared.jobs import ENDED
from shared.models import Job
from shared.object_url import ObjectUrl
from shared.periodic_task import PeriodicTask
from shared.settings import Settings
from shared.storage import Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

IDLE_S = 2.0
"""How often it looks for jobs left over from before a restart; a new one wakes it at once."""

LEASE_S = 20.0
"""Another process goes on with a job whose lister has not been heard of for this long."""


class LeaseRenewal(PeriodicTask):
    """Keeps the leases of the jobs that a process lists."""

    def __init__(self, database: Database, owner: str, listed: Callable[[], set[str]]) -> None:
        """`listed`: the names of the leases to be kept, now."""
        super().__init__("expansion-leases")
        self._database = database
        self._owner = owner
        self._listed = listed

    def round(self) -> float:
        """Renew them; one that another process took over meanwhile is left to it."""
        if names := self._listed():
            with self._database.transaction() as session:
                job_store.renew_leader_leases(session, names, owner=self._owner, lease_s=LEASE_S)
        return LEASE_S / 4


class Expander(PeriodicTask):
    """A page of each job in turn, as long as there are jobs to list."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        super().__init__("expansion")
        self._database = database
        self._storage = storage
        self._settings = settings
        self._disk = ArchiveDisk(settings.archive_disk_bytes)
        self._owner = uuid.uuid4().hex
        self._listings: dict[uuid.UUID, Iterator[Page]] = {}
        self._listed: set[str] = set()
        """The names of this process's leases; a new set each time, since two threads read it."""
        self._renewal = LeaseRenewal(database, self._owner, lambda: self._listed)

    def start(self) -> None:
        """Begin."""
        super().start()
        self._renewal.start()

    def stop(self) -> None:
        """End after the page at hand, and let another process go on at once."""
        super().stop()
        self._renewal.stop()
        with suppress(MattingError), self._database.transaction() as session:
            for name in self._listed:
                job_store.release_leader_lease(session, name, owner=self._owner)

    def round(self) -> float:
        """A page of each job."""
        more = False
        with self._database.transaction() as session:
            jobs = job_store.unexpanded_jobs(session)
        for ended in self._listings.keys() - set(jobs):  # an open zip file takes up disk
            del self._listings[ended]
        self._listed = {_lease_name(job_id) for job_id in self._listings}
        for job_id in jobs:
            if self._stopping.is_set():
                break
            try:
                more |= self.expand_page(job_id)
            except MattingError as error:
                log.warning(
                    "expansion-failed", job=str(job_id), code=error.code, detail=error.detail
                )
            except Exception:
                log.exception("expansion-failed", job=str(job_id))
        return 0 if more else IDLE_S

    def expand_page(self, job_id: uuid.UUID) -> bool:
        """List one more page of a job's source; False when there is nothing left to list, or
        another process does it.
        """
        duty = _lease_name(job_id)
        with self._database.transaction() as session:
            job = job_store.load_job(session, job_id)
            if job is None or job.status in ENDED or job.expanded_at is not None:
                self._listings.pop(job_id, None)
                return False
            if not job_store.acquire_leader_lease(
                session, duty, owner=self._owner, lease_s=LEASE_S
            ):
                self._listings.pop(job_id, None)  # the other one moves the cursor
                return False
            sources = job_store.allowed_sources(session, job.api_key_id)
        self._listed = self._listed | {duty}
        error: MattingError | None = None
        try:
            page = self._next_page(job, sources)
            if page is not None:
                with self._database.transaction() as session:
                    if job_store.add_page(session, job_id, page.items, cursor=page.cursor):
                        return True
                self._listings.pop(job_id, None)  # it is over: cancelled, or another's work
                return False
            if job.expansion_cursor is None:
                error = EmptySourceError()
        except (ImageError, RequestError) as raised:  # no use trying again; what was listed goes on
            error = raised
        except DiskFullError:  # another process may have the room
            self._listings.pop(job_id, None)
            with self._database.transaction() as session:
                job_store.release_leader_lease(session, duty, owner=self._owner)
            raise
        except MattingError:  # a part is away: begin again from the cursor
            self._listings.pop(job_id, None)
            raise
        except Exception:  # a defect, or rows that can't be stored: it would only be met again
            log.exception("expansion-crashed", job=str(job_id))
            error = MattingError()
        with self._database.transaction() as session:
            told = None if error is None else (error.code, error.message)
            job_store.finish_expansion(session, job_id, told)
            job_store.release_leader_lease(session, duty, owner=self._owner)
        self._listings.pop(job_id, None)
        self._drop_archive(job)
        return False

    def _next_page(self, job: Job, sources: Sequence[str] | None) -> Page | None:
        listing = self._listings.get(job.id)
        if listing is None:
            listing = self._listings[job.id] = pages(
                job, self._storage, self._settings, sources, self._disk
            )
        return next(listing, None)

    def _drop_archive(self, job: Job) -> None:
        """A zip file that came with the request, or was uploaded and that no other job names, is of
        no more use: its photos lie beside it, and both would take up the room of one. What stays
        because of an error goes with the job.
        """
        if job.source["kind"] != "zip":
            return
        place = ObjectUrl.parse(job.source["object"], self._storage.bucket)
        sent = place.key == attached_key(job.id, "zip") or place.key.startswith(UPLOADS_PREFIX)
        if place.bucket != self._storage.bucket or not sent:
            return
        try:
            with self._database.transaction() as session:
                named = job_store.sources_still_needed(session, [str(place)], but_for=job.id)
            if not named:
                self._storage.delete_many([place.key])
        except MattingError as error:
            log.warning("archive-left", job=str(job.id), code=error.code, detail=error.detail)


def _lease_name(job_id: uuid.UUID) -> str:
    return f"expand:{job_id}"
