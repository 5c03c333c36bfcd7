"""Locks shared by all changes of a job: its row is locked first; its end is checked last."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.database import now
from shared.errors import TooManyFailuresError
from shared.job_store.conditions import is_among, is_postgresql, statement_time
from shared.job_store.outbox import announce, announce_progress
from shared.job_store.segments import end_segments, holds_segments
from shared.job_store.shown_version import show_new_version
from shared.jobs import ENDED, HELD, JobStatus
from shared.models import Item, Job
from shared.webhooks import Event


def lock_jobs(session: Session, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Job]:
    """Lock the rows of these jobs in the order of their ids, and read them again."""
    return lock_jobs_at(session, ids)[0]


def lock_jobs_at(
    session: Session, ids: Iterable[uuid.UUID]
) -> tuple[dict[uuid.UUID, Job], datetime]:
    """The same, with the database's time at which the statement began: a transaction that locked
    one of them first may have a later time.
    """
    postgres = is_postgresql(session)
    parameters: dict[str, Any] = {"ids": list(set(ids))}
    if not postgres:
        parameters["moment"] = now(session)
    rows = session.execute(_locked_jobs(postgres=postgres), parameters).all()
    return {job.id: job for job, _ in rows}, rows[0][1] if rows else now(session)


def lock_jobs_for_reading(
    session: Session, ids: Iterable[uuid.UUID], *columns: InstrumentedAttribute[Any]
) -> dict[uuid.UUID, "sa.Row[Any]"]:
    """Lock the rows of these jobs in the same way, and read only their ids and these columns: that
    takes half the time. The caller changes them with a statement.
    """
    statement = _locked_columns(columns, postgres=is_postgresql(session))
    return {row.id: row for row in session.execute(statement, {"ids": list(set(ids))})}


@cache
def _locked_columns(columns: tuple[Any, ...], *, postgres: bool) -> sa.Select[Any]:
    return (
        sa.select(Job.id, *columns)
        .where(is_among(Job.id, "ids", postgres=postgres))
        .order_by(Job.id)
        .with_for_update(key_share=True, of=Job)
    )


@cache
def _locked_jobs(*, postgres: bool) -> sa.Select[tuple[Job, datetime]]:
    """Built once: that takes as long as a round trip."""
    return (
        sa.select(Job, statement_time(postgres=postgres))
        .where(is_among(Job.id, "ids", postgres=postgres))
        .order_by(Job.id)
        .with_for_update(key_share=True, of=Job)
        .execution_options(populate_existing=True)
    )


def locked_items(*conditions: sa.ColumnElement[bool]) -> sa.Select[tuple[uuid.UUID]]:
    """The ids of matching items, locked in the order of their ids. An UPDATE of many rows uses it,
    because an UPDATE alone locks rows in any order.
    """
    return sa.select(Item.id).where(*conditions).order_by(Item.id).with_for_update()


def finish_settled_jobs(session: Session, jobs: Iterable[Job]) -> None:
    """Finish each locked job whose listing is complete and whose images have all ended; pause each
    job that fails too often. Webhooks are notified of both, and of progress. The version that a job
    made is shown; the caller has locked the item's job too.
    """
    note_settled_jobs(session, jobs)
    session.flush()


def note_settled_jobs(session: Session, jobs: Iterable[Job]) -> None:
    """The same, for a caller that writes the changes of the jobs itself."""
    left = list(jobs)
    going_on: list[Job] = []
    for job in left:
        done = (
            job.expanded_at is not None
            and job.queued == 0
            and job.running == 0
            and job.pending_change is None
        )
        if done and job.status not in ENDED:
            job.status = JobStatus.FINISHED
            job.finished_at = now(session)
            if job.of_job_id is None:
                announce(session, job, Event.JOB_FINISHED)
            elif holds_segments(job):
                session.flush()
                if (origin := end_segments(session, job)) is not None:
                    left.append(origin)
            else:
                session.flush()
                show_new_version(session, job)
        elif job.status not in HELD and _fails_too_often(job):
            job.status = JobStatus.PAUSED
            job.error_code = TooManyFailuresError.code
            job.error_detail = TooManyFailuresError(
                f"{job.failed:,} of the first {job.succeeded + job.failed:,} images failed"
            ).message
            announce(session, job, Event.JOB_PAUSED)
        elif job.status not in HELD:
            going_on.append(job)
    announce_progress(session, going_on)


def _fails_too_often(job: Job) -> bool:
    """Whether more images of the job failed than its `failure_share` allows."""
    failed = job.failed - job.forgiven_failed
    settled = job.succeeded + job.failed - job.forgiven_done
    if job.failure_share is None or settled < max(1, job.failure_after):
        return False
    return failed > job.failure_share * settled
