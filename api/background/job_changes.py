"""Carries on changes of whole jobs: their images follow in pages, each a short transaction.

The request changes the first page and wakes this thread; after a crash the rows show what is left.
One process at a time does it. Jobs take turns, so a job of millions does not delay a small one.
"""

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

    def stop(self) -> None:
        """Stop after the current page, and let another process continue at once."""
        super().stop()
        self._leadership.release()

    def round(self) -> float:
        """Change a page of each job; returns 0 if there may be more."""
        if not self._leadership.held():
            return LOOK_EVERY_S
        with self._database.transaction() as session:
            jobs = job_store.changing_jobs(session, limit=JOBS_AT_ONCE)
        for job_id in jobs:
            if self._stopping.is_set() or not self._leadership.held():
                break
            with self._database.transaction() as session:
                changed = job_store.continue_change(session, job_id)
            log.debug("job-changed", job=str(job_id), images=changed)
            self._stopping.wait(PAUSE_S)
        return 0.0 if jobs else LOOK_EVERY_S
