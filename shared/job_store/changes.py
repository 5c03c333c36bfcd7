"""Changes of a whole job, carried out in pages of its images, each page one short transaction.

What is to be done stands in the job's row, with how far it is done: whoever comes next goes on,
also after a crash. Meanwhile the job neither ends nor begins another change of its images.
"""

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.conditions import is_value
from shared.job_store.locks import finish_settled_jobs, lock_jobs, locked_items
from shared.job_store.outbox import settled_percent
from shared.jobs import ENDED, ItemStatus, JobStatus, PendingChange
from shared.models import Item, Job

PAGE_ITEMS = 250
"""Some ten milliseconds of a database, a hundred of a busy one whose indexes do not fit its memory:
batches of the same job wait for as long.
"""


def changing_jobs(session: Session, *, limit: int) -> list[uuid.UUID]:
    """Jobs whose images do not all show yet what was asked for, oldest first."""
    statement = sa.select(Job.id).where(Job.pending_change.is_not(None)).order_by(Job.id)
    return list(session.scalars(statement.limit(limit)))


def continue_change(session: Session, job_id: uuid.UUID) -> int:
    """Carry out another page of what was asked for; returns how many images changed."""
    job = lock_jobs(session, [job_id]).get(job_id)
    return 0 if job is None else change_page(session, job)


def change_page(session: Session, job: Job) -> int:
    """The same for a job that is locked."""
    if job.pending_change is PendingChange.CANCEL:
        waiting = (Item.job_id == job.id, is_value(Item.status, ItemStatus.QUEUED))
        changed = _update_page(
            session,
            job,
            waiting,
            status=ItemStatus.CANCELLED,
            finished_at=job.finished_at,
            published_at=None,
        )
    elif job.pending_change is PendingChange.RETRY and job.status is not JobStatus.CANCELLED:
        changed = _update_page(
            session,
            job,
            is_retryable(job.id),
            status=ItemStatus.QUEUED,
            attempts=0,
            not_before=None,
            published_at=None,
            error_code=None,
            error_detail=None,
            finished_at=None,
        )
        job.failed -= changed
        job.queued += changed
        job.progress_told = settled_percent(job)
        if changed and job.status in ENDED:  # by an older version, which knows of no changes
            job.status, job.finished_at = JobStatus.RUNNING, None
    else:
        changed, job.pending_change = 0, None
    if job.pending_change is None:
        finish_settled_jobs(session, [job])
    session.flush()
    return changed


def is_retryable(job_id: uuid.UUID) -> Sequence[sa.ColumnElement[bool]]:
    """Of an item: it failed, and not before its first try."""
    return (
        Item.job_id == job_id,
        is_value(Item.status, ItemStatus.FAILED),
        Item.attempts > sa.literal(0, literal_execute=True),
    )


def _update_page(
    session: Session, job: Job, which: Sequence[sa.ColumnElement[bool]], **values: Any
) -> int:
    """Update the next of the items of which `which` holds; after the last the change is over."""
    page = sa.select(Item.id, Item.position).where(*which, Item.position > job.pending_after)
    rows = session.execute(page.order_by(Item.position).limit(PAGE_ITEMS)).all()
    # They stay what they are: with the job's row locked nobody else changes their status.
    session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(Item.id.in_([row.id for row in rows]))))
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if len(rows) < PAGE_ITEMS:
        job.pending_change, job.pending_after = None, 0
    else:
        job.pending_after = rows[-1].position
    return len(rows)
