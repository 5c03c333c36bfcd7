"""Lists the sources of jobs in the background, in pages; each page is one transaction.

The job's row stores how far the listing has come, so it continues after a restart. Listing a page
twice adds nothing, because a job has each source only once. Jobs take turns, so a small job does
not wait for a large one; zip files are downloaded in other threads. A source that has turns takes a
place (api.sources.places). One process lists a job at a time: it holds a lease, which a second
thread renews.
"""

import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress

from api.sources.listed_pages import Page, Pause
from api.sources.listing import pages
from api.sources.places import Places
from api.sources.shortage import is_shortage
from api.sources.source_policy import UPLOADS_PREFIX, attached_key
from api.sources.zip_listing import ZIPS_AT_ONCE, ZipListings
from shared import job_store
from shared.database import Database
from shared.destination import given_placeholders, refuse_unknown
from shared.errors import (
    BadManifestError,
    DestinationCollisionError,
    DiskFullError,
    EmptySourceError,
    ImageError,
    MattingError,
    RequestError,
    TransientError,
)
from shared.job_store import UnlistedJob
from shared.jobs import ENDED
from shared.models import Job
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.periodic_task import PeriodicTask
from shared.result_names import OF_ROW
from shared.settings import Settings
from shared.storage import Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

IDLE_S = 2.0
"""How often the thread looks for jobs left from before a restart. A new job wakes it at once."""

LISTS_AT_ONCE = 8
"""Most lists that a process has open. Each takes a connection to the storage."""

PREFIXES_AT_ONCE = 16
"""Most prefixes that take turns. They hold nothing open, but a round lists a page of each, and a
new job waits for its end.
"""

LEASE_S = 20.0
"""Another process takes over the listing of a job if its lease was not renewed for this long."""


class LeaseRenewal(PeriodicTask):
    """Renews the leases of the jobs that this process lists."""

    def __init__(self, database: Database, owner: str, listed: Callable[[], set[str]]) -> None:
        """`listed`: the current names of the leases."""
        super().__init__("expansion-leases")
        self._database = database
        self._owner = owner
        self._listed = listed

    def round(self) -> float:
        """Renew the leases; a lease that another process took over stays with it."""
        if names := self._listed():
            with self._database.transaction() as session:
                job_store.renew_leader_leases(session, names, owner=self._owner, lease_s=LEASE_S)
        return LEASE_S / 4


class Expander(PeriodicTask):
    """Lists one page of each job in turn while there are jobs to list."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        super().__init__("expansion")
        self._database = database
        self._storage = storage
        self._settings = settings
        self._zips = ZipListings(storage, settings)
        self._owner = uuid.uuid4().hex
        self._listings: dict[uuid.UUID, Generator[Page | Pause]] = {}
        self._paused: dict[uuid.UUID, Future[None]] = {}
        """What listings wait for."""
        self._ended = False
        """Whether a listing ended in this round, so that its place is free."""
        self._places = {
            "prefix": Places(PREFIXES_AT_ONCE, costly=False),
            "list": Places(LISTS_AT_ONCE),
            "zip": Places(ZIPS_AT_ONCE),
        }
        self._listed: set[str] = set()
        """The names of this process's leases. It is replaced, never changed, since two threads read
        it.
        """
        self._renewal = LeaseRenewal(database, self._owner, lambda: self._listed)

    def start(self) -> None:
        """Start the threads."""
        super().start()
        self._renewal.start()

    def stop(self) -> None:
        """Stop after the current page, and let another process continue at once."""
        super().stop()
        self._renewal.stop()
        if not self._thread.is_alive():  # else it still needs them
            for job_id in list(self._listings):
                self._close(job_id)
            self._zips.close()
        with suppress(MattingError), self._database.transaction() as session:
            for name in self._listed:
                job_store.release_leader_lease(session, name, owner=self._owner)

    def round(self) -> float:
        """List one page of each job that has a place, unless it waits for a download."""
        more = self._ended = False
        with self._database.transaction() as session:
            elsewhere = job_store.leases_of_others(session, owner=self._owner)
            unlisted = [
                job
                for job in job_store.unexpanded_jobs(session)
                if _lease_name(job.id) not in elsewhere
            ]
        jobs = self._with_places(unlisted)
        for left in self._listings.keys() - set(jobs):  # an open zip file occupies disk space
            self._close(left)
            self._release(left)
        self._listed = {_lease_name(job_id) for job_id in self._listings}
        for job_id in jobs:
            if self._stopping.is_set():
                break
            if self._is_paused(job_id):
                continue
            try:
                more |= self.expand_page(job_id) and not self._is_paused(job_id)
            except MattingError as error:
                log.warning(
                    "expansion-failed", job=str(job_id), code=error.code, detail=error.detail
                )
            except Exception:
                log.exception("expansion-failed", job=str(job_id))
            if job_id not in self._listings:
                for places in self._places.values():
                    places.leave(job_id)
        others_wait = self._ended and len(jobs) < len(unlisted)
        return 0 if more or others_wait else IDLE_S

    def _with_places(self, unlisted: Sequence[UnlistedJob]) -> list[uuid.UUID]:
        """The jobs that have a turn, in the order of their ids."""
        placed: set[uuid.UUID] = set()
        for kind, places in self._places.items():
            placed |= places.assign([job for job in unlisted if _place_of(job) == kind])
        return [job.id for job in unlisted if job.id in placed]

    def _is_paused(self, job_id: uuid.UUID) -> bool:
        return job_id in self._paused and not self._paused[job_id].done()

    def _close(self, job_id: uuid.UUID) -> None:
        self._paused.pop(job_id, None)
        self._listings.pop(job_id).close()

    def expand_page(self, job_id: uuid.UUID) -> bool:
        """List one more page of a job's source; False if nothing is left, or another process lists
        it.
        """
        duty = _lease_name(job_id)
        # A listing is kept only if all that it gave is recorded. Otherwise another one begins at
        # the cursor, so no page is left out and the same error comes again.
        listing = self._listings.pop(job_id, None)
        self._paused.pop(job_id, None)
        try:
            with self._database.transaction() as session:
                job = job_store.load_job(session, job_id)
                if job is None or job.status in ENDED or job.expanded_at is not None:
                    return False
                if not job_store.acquire_leader_lease(
                    session, duty, owner=self._owner, lease_s=LEASE_S
                ):
                    return False  # the other process moves the cursor
                sources = job_store.allowed_sources(session, job.api_key_id)
            self._listed = self._listed | {duty}
            if listing is None:
                listing = self._open(job, sources)
            if more := self._record_next(job, listing):
                self._listings[job_id] = listing
            return more
        finally:
            if listing is not None and job_id not in self._listings:
                listing.close()

    def _open(self, job: Job, sources: Sequence[str] | None) -> Generator[Page | Pause]:
        if job.source["kind"] == "zip":
            return self._zips.pages(job)
        return pages(job, self._storage, self._settings, sources)

    def _record_next(self, job: Job, listing: Iterator[Page | Pause]) -> bool:
        """Record the next page of a listing, or its end, or the error that ends it. Returns whether
        it goes on. Raises MattingError if it must be tried again.
        """
        error: MattingError | None = None
        try:
            page = next(listing, None)
            if isinstance(page, Pause):
                if page.until is not None:
                    self._paused[job.id] = page.until
                    page.until.add_done_callback(lambda _: self.wake())
                return True
            if page is not None:
                if job.expansion_cursor is None:
                    _check_columns(job, page)
                return self._record(job, page)
            if not job.total:
                error = EmptySourceError()
        # permanent error: the images listed so far are processed
        except (ImageError, RequestError) as raised:
            error = raised
            kept = not isinstance(raised, BadManifestError | DestinationCollisionError)
            if job.expansion_cursor is not None and kept:
                error.detail = f"{raised.detail.rstrip('.')}. {_where_it_stopped(job)}"
        except DiskFullError:  # another process may have enough space
            self._release(job.id)
            raise
        except MattingError:  # a service is unavailable: continue from the cursor later
            raise
        # a bug, or rows that cannot be stored: trying again would fail in the same way
        except Exception as raised:
            if self._stopping.is_set():  # what this process closes is no fault of the source
                raise TransientError(f"The listing stopped with its process: {raised}") from raised
            if is_shortage(raised):  # other jobs may be the cause, and another process may have it
                self._release(job.id)
                raise TransientError(f"The machine is short of something: {raised}") from raised
            log.exception("expansion-crashed", job=str(job.id))
            error = MattingError()
        with self._database.transaction() as session:
            told = None if error is None else (error.code, error.message)
            if isinstance(error, DestinationCollisionError):
                job_store.cancel_job(session, job.id)
            job_store.finish_expansion(session, job.id, told)
            job_store.release_leader_lease(session, _lease_name(job.id), owner=self._owner)
        self._ended = True
        self._drop_archive(job)
        return False

    def _record(self, job: Job, page: Page) -> bool:
        """Record a page; False: the job was cancelled, or another process lists it."""
        with self._database.transaction() as session:
            recorded = job_store.add_page(
                session,
                job.id,
                page.items,
                cursor=page.cursor,
                without_photo=page.without_photo,
            )
        for places in self._places.values():
            places.note_page(job.id)
        return recorded

    def _release(self, job_id: uuid.UUID) -> None:
        with self._database.transaction() as session:
            job_store.release_leader_lease(session, _lease_name(job_id), owner=self._owner)

    def _drop_archive(self, job: Job) -> None:
        """Delete a zip file that came with the request, or was uploaded and is used by no other
        job: its photos are stored beside it and would double the space. If an error keeps it, it is
        deleted with the job.
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


def _check_columns(job: Job, page: Page) -> None:
    """Raise UnknownPlaceholderError if no row of a list's first page fills a placeholder."""
    needed = given_placeholders(job.destination, Options.model_validate(job.options))
    if not needed or not page.items:
        return
    columns = {name for item in page.items for name in item.labels or ()}
    if any(item.custom_id is not None for item in page.items):
        columns.add(OF_ROW)
    refuse_unknown(needed, columns)


def _where_it_stopped(job: Job) -> str:
    """How far the listing of a source came; a list tells its rows itself."""
    units = {"prefix": "the key", "zip": "photo"}
    unit, total = units.get(job.source["kind"], "row"), job.total
    return f"The listing stopped behind {unit} {job.expansion_cursor}; {total:,} images are listed"


def _place_of(job: UnlistedJob) -> str:
    """The kind of place that a job's source takes."""
    return job.kind if job.kind in ("prefix", "zip") else "list"


def _lease_name(job_id: uuid.UUID) -> str:
    return f"expand:{job_id}"
