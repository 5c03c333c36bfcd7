"""What a caller can do with a job: cancel, pause, resume, retry, delete.

Each call is short for jobs of any size: it changes the job's row and the first page of its
images. The remaining pages follow in the background (shared.job_store.changes). Each raises
JobNotFoundError if the job was deleted in the meantime; only to delete it again is no error.
"""

import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import JobChangingError, JobNotFoundError, TooManyFailuresError
from shared.job_store.changes import change_page, is_retryable
from shared.job_store.conditions import is_value
from shared.job_store.intake import LISTING_ERROR
from shared.job_store.locks import finish_settled_jobs, lock_jobs, locked_items
from shared.job_store.outbox import announce
from shared.job_store.segments import give_up_segments, jobs_of_segments
from shared.job_store.usage import images_to_take, take_from_quota
from shared.jobs import ENDED, HELD, ItemStatus, JobStatus, PendingChange
from shared.models import Item, Job
from shared.webhooks import Event


def _locked(session: Session, job_id: uuid.UUID) -> Job:
    """The job, locked. Raises JobNotFoundError if it was deleted in the meantime."""
    job = lock_jobs(session, [job_id]).get(job_id)
    if job is None or job.deleted_at is not None:
        raise JobNotFoundError(f"There is no job {job_id}")
    return job


def cancel_job(session: Session, job_id: uuid.UUID) -> Job:
    """Cancel the images of a job that no worker holds, and the listing of its source. A job that
    has ended stays unchanged.

    Images that a worker holds are finished and recorded: at most the batches in flight.
    """
    job = _locked(session, job_id)
    if job.status not in ENDED:
        _cancel(session, job)
        job.pending_change, job.pending_after = PendingChange.CANCEL, 0
        change_page(session, job)
    session.flush()
    return job


def _cancel(session: Session, job: Job) -> None:
    """Cancel the job and correct its counters. Workers claim none of its waiting images from now
    on.
    """
    job.cancelled += job.queued
    job.queued = job.turntables_left = 0
    job.status = JobStatus.CANCELLED
    job.finished_at = now(session)
    job.expanded_at = job.expanded_at or job.finished_at
    give_up_segments(session, job.id)
    announce(session, job, Event.JOB_CANCELLED)


def retry_failed(session: Session, job_id: uuid.UUID) -> Job:
    """Put the failed items of a job back into the queue with all their attempts.

    Items that were never attempted stay failed, because their manifest row or zip entry is wrong.
    Failed images cost nothing, so other jobs may have used their share of the quota since. So the
    quota is checked again.

    Raises JobChangingError while images of the job are still being cancelled, QuotaExceededError.
    """
    job = _locked(session, job_id)
    if job.pending_change is PendingChange.CANCEL:
        raise JobChangingError
    if job.pending_change is None:  # a retry in progress has checked already
        _ask_quota_again(session, job)
    # in this order, so that the index is read even where the job is most of the table
    first = sa.select(Item.id).where(*is_retryable(job_id)).order_by(Item.position).limit(1)
    if session.scalar(first) is not None:
        job.finished_at = None
        if job.status in ENDED:
            job.status = JobStatus.RUNNING
        job.pending_change, job.pending_after = PendingChange.RETRY, 0
        change_page(session, job)
    session.flush()
    return job


def count_retryable(session: Session, job_id: uuid.UUID) -> int:
    """The number of items that `retry_failed` would put back into the queue, up to MOST_COUNTED."""
    some = sa.select(Item.id).where(*is_retryable(job_id)).limit(MOST_COUNTED).subquery()
    return session.scalar(sa.select(sa.func.count()).select_from(some)) or 0


MOST_COUNTED = 1_000
"""Items that a request may count; a job's counters tell larger numbers."""


def _ask_quota_again(session: Session, job: Job) -> None:
    """Raise QuotaExceededError unless all images to be retried fit into the quota."""
    left = images_to_take(session, job.api_key_id)
    if left is None or job.failed <= left:
        return
    statement = sa.select(sa.func.count()).select_from(Item).where(*is_retryable(job.id))
    take_from_quota(session, job.api_key_id, session.scalar(statement) or 0)


def pause_job(session: Session, job_id: uuid.UUID) -> Job:
    """Pause a job: workers claim none of its images. A job that has ended stays unchanged."""
    job = _locked(session, job_id)
    if job.status not in HELD:
        job.status = JobStatus.PAUSED
        announce(session, job, Event.JOB_PAUSED)
    session.flush()
    return job


def resume_job(session: Session, job_id: uuid.UUID) -> Job:
    """Resume a paused job. Images that failed before no longer count for `failure_share`."""
    job = _locked(session, job_id)
    if job.status is not JobStatus.PAUSED:
        return job
    job.status = JobStatus.RUNNING if job.started_at else JobStatus.ACCEPTED
    job.forgiven_failed, job.forgiven_done = job.failed, job.succeeded + job.failed
    if job.error_code == TooManyFailuresError.code:
        job.error_code, job.error_detail = job.source.get(LISTING_ERROR, (None, None))
    # Workers dropped the messages that arrived during the pause; there are at most as many as a job
    # may publish ahead.
    on_queue = locked_items(
        Item.job_id.in_([job_id, *jobs_of_segments(session, job_id)]),
        is_value(Item.status, ItemStatus.QUEUED),
        Item.published_at.is_not(None),
    )
    session.execute(
        sa.update(Item)
        .where(Item.id.in_(list(session.scalars(on_queue))))
        .values(published_at=None)
        .execution_options(synchronize_session=False)
    )
    finish_settled_jobs(session, [job])
    return job


def delete_job(session: Session, job_id: uuid.UUID) -> None:
    """Hide a job from its caller at once; the sweeper deletes its rows and objects later. Nothing
    if it has done so already.
    """
    job = lock_jobs(session, [job_id]).get(job_id)
    if job is None:
        return
    if job.status not in ENDED:
        _cancel(session, job)
    job.pending_change = None  # all its images will be removed
    job.deleted_at = job.deleted_at or now(session)
    session.flush()
