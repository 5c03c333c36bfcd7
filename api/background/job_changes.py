"""Carries on changes of whole jobs: their images follow in pages, each a short transaction. So do
their groups, when the source is listed.

The request changes the first page and wakes this thread; after a crash the rows show what is left.
One process at a time does it. Jobs take turns, so a job of millions does not delay a small one.
"""

from api.background.put_aside import PutAside
from shared import job_store
from shared.database import Database
from shared.leadership import Leadership
from shared.periodic_task import PeriodicTask
from shared.telemetry import get_logger

log = get_logger(__name__)

LOOK_EVERY_S = 0.5
LEADER_LEASE_S = 10.0
JOBS_AT_ONCE = 100
PAUSE_S = 0.02
"""Pause between two pages, for batches that wait for the job's row."""


class JobChanger(PeriodicTask):
    """Changes one page of each job in turn while there are jobs to change."""

    def __init__(self, database: Database) -> None:
        super().__init__("job-changes")
        self._database = database
        self._leadership = Leadership(database, "job-changes", lease_s=LEADER_LEASE_S)
        self._changes, self._groups = PutAside("job-change"), PutAside("job-groups")

    def stop(self) -> None:
        """Stop after the current page, and let another process continue at once."""
        super().stop()
        self._leadership.release()

    def round(self) -> float:
        """Change a page of each job; returns 0 if there may be more."""
        if not self._leadership.held():
            return LOOK_EVERY_S
        with self._database.transaction() as session:
            jobs = job_store.changing_jobs(
                session, limit=JOBS_AT_ONCE, but_for=self._changes.jobs()
            )
        for job_id in jobs:
            if self._stopping.is_set() or not self._leadership.held():
                break
            with self._changes.on_failure(job_id):
                with self._database.transaction() as session:
                    changed = job_store.continue_change(session, job_id)
                log.debug("job-changed", job=str(job_id), images=changed)
            self._stopping.wait(PAUSE_S)
        return 0.0 if self._look_at_groups() or jobs else LOOK_EVERY_S

    def _look_at_groups(self) -> bool:
        """Look at a page of the groups of each job whose listing or retry has ended; returns
        whether there may be more.
        """
        with self._database.transaction() as session:
            jobs = job_store.grouping_jobs(session, limit=JOBS_AT_ONCE, but_for=self._groups.jobs())
        for job_id in jobs:
            if self._stopping.is_set() or not self._leadership.held():
                break
            with self._groups.on_failure(job_id):
                with self._database.transaction() as session:
                    groups = job_store.continue_grouping(session, job_id)
                log.debug("groups-looked-at", job=str(job_id), groups=groups)
            self._stopping.wait(PAUSE_S)
        return bool(jobs)
