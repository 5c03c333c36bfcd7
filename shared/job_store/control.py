"""What a caller can do to a job that it submitted: cancel it, retry what failed."""

import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.job_store.locks import lock_jobs
from shared.jobs import ENDED, ItemStatus, JobStatus
from shared.models import Item, Job


def cancel_job(session: Session, job_id: uuid.UUID) -> Job:
    """Cancel everything of a job that no worker has yet; a job that has ended stays as it is.

    Images that a worker holds are finished and recorded: they are at most the batches in flight.
    """
    job = lock_jobs(session, [job_id])[job_id]
    if job.status in ENDED:
        return job
    moment = now(session)
    result = session.execute(
        sa.update(Item)
        .where(Item.job_id == job_id, Item.status == ItemStatus.QUEUED)
        .values(status=ItemStatus.CANCELLED, finished_at=moment, published_at=None)
        .execution_options(synchronize_session=False)
    )
    count = int(getattr(result, "rowcount", 0))
    job.queued -= count
    job.cancelled += count
    job.status = JobStatus.CANCELLED
    job.finished_at = moment
    session.flush()
    return job


def retry_failed(session: Session, job_id: uuid.UUID) -> Job:
    """Put the failed items of a job back into the queue, with all their tries before them."""
    job = lock_jobs(session, [job_id])[job_id]
    result = session.execute(
        sa.update(Item)
        .where(Item.job_id == job_id, Item.status == ItemStatus.FAILED)
        .values(
            status=ItemStatus.QUEUED,
            attempts=0,
            not_before=None,
            published_at=None,
            error_code=None,
            error_detail=None,
            finished_at=None,
        )
        .execution_options(synchronize_session=False)
    )
    count = int(getattr(result, "rowcount", 0))
    if count:
        job.failed -= count
        job.queued += count
        job.status = JobStatus.RUNNING
        job.finished_at = None
    session.flush()
    return job
