"""What every change of a job shares: its row is locked first, and its end is noticed last."""

import uuid
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.jobs import ENDED, JobStatus
from shared.models import Job


def lock_jobs(session: Session, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Job]:
    """Lock the rows of these jobs in the order of their ids, and read them anew."""
    statement = (
        sa.select(Job)
        .where(Job.id.in_(set(ids)))
        .order_by(Job.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return {job.id: job for job in session.scalars(statement)}


def settle_jobs(session: Session, jobs: Iterable[Job]) -> None:
    """Finish each locked job that is listed to its end and has nothing left to do."""
    for job in jobs:
        done = job.expanded_at is not None and job.queued == 0 and job.running == 0
        if done and job.status not in ENDED:
            job.status = JobStatus.FINISHED
            job.finished_at = now(session)
    session.flush()
