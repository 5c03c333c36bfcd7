"""What a caller can do to a job that it submitted: cancel, pause, resume, retry, delete it."""

import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import TooManyFailuresError
from shared.job_store.locks import finish_settled_jobs, lock_jobs, locked_items
from shared.job_store.outbox import announce, settled_percent
from shared.job_store.usage import take_from_quota
from shared.jobs import ENDED, HELD, ItemStatus, JobStatus
from shared.models import Item, Job
from shared.webhooks import Event


def cancel_job(session: Session, job_id: uuid.UUID) -> Job:
    """Cancel everything of a job that no worker has yet, and the listing of its source; a job that
    has ended stays as it is.

    Images that a worker holds are finished and recorded: they are at most the batches in flight.
    """
    job = lock_jobs(session, [job_id])[job_id]
    if job.status in ENDED:
        return job
    moment = now(session)
    result = session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(Item.job_id == job_id, Item.status == ItemStatus.QUEUED)))
        .values(status=ItemStatus.CANCELLED, finished_at=moment, published_at=None)
        .execution_options(synchronize_session=False)
    )
    count = int(getattr(result, "rowcount", 0))
    job.queued -= count
    job.cancelled += count
    job.status = JobStatus.CANCELLED
    job.finished_at = moment
    job.expanded_at = job.expanded_at or moment
    announce(session, job, Event.JOB_CANCELLED)
    session.flush()
    return job


def retry_failed(session: Session, job_id: uuid.UUID) -> Job:
    """Put the failed items of a job back into the queue, with all their tries before them.

    Those that were never tried stay: their row of the manifest, or their entry of the zip file,
    is what is wrong. Failed images cost nothing, so their share of the quota may have gone to
    others: it is asked for again. Raises QuotaExceededError.
    """
    job = lock_jobs(session, [job_id])[job_id]
    failed = (Item.job_id == job_id, Item.status == ItemStatus.FAILED, Item.attempts > 0)
    again = session.scalar(sa.select(sa.func.count()).select_from(Item).where(*failed)) or 0
    if again:
        take_from_quota(session, job.api_key_id, again)
    result = session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(*failed)))
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
        job.finished_at = None
        job.progress_told = settled_percent(job)
        if job.status in ENDED:
            job.status = JobStatus.RUNNING
    session.flush()
    return job


def pause_job(session: Session, job_id: uuid.UUID) -> Job:
    """Hold a job: no more of its images are taken up. One that has ended stays as it is."""
    job = lock_jobs(session, [job_id])[job_id]
    if job.status not in HELD:
        job.status = JobStatus.PAUSED
        announce(session, job, Event.JOB_PAUSED)
    session.flush()
    return job


def resume_job(session: Session, job_id: uuid.UUID) -> Job:
    """Go on with a job that is paused; what failed up to now no longer counts against it."""
    job = lock_jobs(session, [job_id])[job_id]
    if job.status is not JobStatus.PAUSED:
        return job
    job.status = JobStatus.RUNNING if job.started_at else JobStatus.ACCEPTED
    job.forgiven_failed, job.forgiven_done = job.failed, job.succeeded + job.failed
    if job.error_code == TooManyFailuresError.code:
        job.error_code = job.error_detail = None
    # Messages that came while it was paused were dropped.
    session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(Item.job_id == job_id, Item.status == ItemStatus.QUEUED)))
        .values(published_at=None)
        .execution_options(synchronize_session=False)
    )
    finish_settled_jobs(session, [job])
    return job


def delete_job(session: Session, job_id: uuid.UUID) -> None:
    """Take a job away from its caller, at once; its rows and objects follow in the background."""
    job = cancel_job(session, job_id)
    job.deleted_at = job.deleted_at or now(session)
    session.flush()
