"""Changes of all images of a job, carried out in pages; each page is one short transaction.

The job's row stores the requested change and its progress, so another process continues after a
crash. Until the change is complete, the job neither finishes nor accepts another change.
"""

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.conditions import in_turn_of_keys, is_value
from shared.job_store.groups import begin_grouping
from shared.job_store.locks import finish_settled_jobs, lock_jobs, locked_items
from shared.job_store.outbox import settled_percent
from shared.job_store.turntables import reopen_turntables
from shared.jobs import ENDED, ItemKind, ItemStatus, JobStatus, PendingChange
from shared.models import Item, Job

PAGE_ITEMS = 64
"""A page takes about 5 ms, or 50 ms on a busy database whose indexes do not fit into memory.
Batches of the same job wait for that long.
"""


def changing_jobs(
    session: Session, *, limit: int, but_for: Collection[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """Jobs with an unfinished change, the oldest of each key first, `but_for` these."""
    changing = Job.pending_change.is_not(None), Job.id.not_in(but_for)
    return list(session.scalars(in_turn_of_keys(*changing, limit=limit)))


def continue_change(session: Session, job_id: uuid.UUID) -> int:
    """Carry out one more page of a job's change; returns the number of changed images."""
    job = lock_jobs(session, [job_id]).get(job_id)
    return 0 if job is None else change_page(session, job)


def change_page(session: Session, job: Job) -> int:
    """The same for a job that is locked already."""
    ids: list[uuid.UUID] = []
    if job.pending_change is PendingChange.CANCEL:
        waiting = (Item.job_id == job.id, is_value(Item.status, ItemStatus.QUEUED))
        ids = _update_page(
            session,
            job,
            waiting,
            status=ItemStatus.CANCELLED,
            finished_at=job.finished_at,
            published_at=None,
        )
    elif job.pending_change is PendingChange.RETRY and job.status is not JobStatus.CANCELLED:
        ids = _update_page(
            session,
            job,
            is_retryable(job.id),
            status=ItemStatus.QUEUED,
            attempts=0,
            forwarded_to=None,
            not_before=None,
            published_at=None,
            error_code=None,
            error_detail=None,
            finished_at=None,
        )
        _count_anew(session, ids)
        reopen_turntables(session, job, ids)
        begin_grouping(session, job)
        job.failed -= len(ids)
        job.queued += len(ids)
        job.progress_told = settled_percent(job)
        # written by an older version, which has no such changes
        if ids and job.status in ENDED:
            job.status, job.finished_at = JobStatus.RUNNING, None
    else:
        job.pending_change = None
    if job.pending_change is None:
        finish_settled_jobs(session, [job])
    session.flush()
    return len(ids)


def _count_anew(session: Session, ids: Sequence[uuid.UUID]) -> None:
    """Forget the claims of clips that did not count as tries: the tries begin anew, too."""
    clips = sa.select(Item).where(Item.id.in_(ids), is_value(Item.kind, ItemKind.CLIP))
    for item in session.scalars(clips.execution_options(populate_existing=True)):
        if item.clip is not None:
            item.clip = {**item.clip, "passes": 0}
    session.flush()


def is_retryable(job_id: uuid.UUID) -> Sequence[sa.ColumnElement[bool]]:
    """The condition for items that failed after at least one attempt."""
    return (
        Item.job_id == job_id,
        is_value(Item.status, ItemStatus.FAILED),
        Item.attempts > sa.literal(0, literal_execute=True),
    )


def _update_page(
    session: Session, job: Job, which: Sequence[sa.ColumnElement[bool]], **values: Any
) -> list[uuid.UUID]:
    """Update the next page of items that match `which`, and return their ids; after the last one
    the change is complete.
    """
    page = sa.select(Item.id, Item.position).where(*which, Item.position > job.pending_after)
    rows = session.execute(page.order_by(Item.position).limit(PAGE_ITEMS)).all()
    # The job's row is locked, so no other transaction changes the status of these items.
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
    return [row.id for row in rows]
