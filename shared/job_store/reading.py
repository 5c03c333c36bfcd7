"""Reads for callers: jobs and items, single or in pages; each only of the caller's own key."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from shared.database import now
from shared.job_store.review import review_filter
from shared.jobs import ENDED, ItemStatus, JobStatus
from shared.models import Item, Job, JobLabel, first_id_of


def get_job(session: Session, job_id: uuid.UUID, *, api_key_id: uuid.UUID) -> Job | None:
    """The job, if this key submitted it."""
    return session.scalar(_JOB_OF_KEY, {"job": job_id, "key": api_key_id})


# Built once: callers ask for the state of their jobs again and again.
_JOB_OF_KEY = sa.select(Job).where(
    Job.id == sa.bindparam("job"),
    Job.api_key_id == sa.bindparam("key"),
    Job.deleted_at.is_(None),
    Job.of_job_id.is_(None),
)


def is_at_rest(job: Job) -> bool:
    """Whether nothing more happens to the job by itself: it has ended or was paused with an error,
    and no worker holds an image of it.
    """
    stopped = job.status is JobStatus.PAUSED and job.error_code is not None
    return (job.status in ENDED or stopped) and job.running == 0


def list_jobs(
    session: Session,
    *,
    api_key_id: uuid.UUID,
    before: uuid.UUID | None,
    limit: int,
    metadata: Mapping[str, str] | None = None,
) -> Sequence[Job]:
    """A page of the key's jobs, newest first, created before the job `before`. `metadata`: only
    jobs whose metadata have all these values.
    """
    if metadata:
        return _list_labelled(session, api_key_id, metadata, before, limit)
    statement = sa.select(Job).where(
        Job.api_key_id == api_key_id, Job.deleted_at.is_(None), Job.of_job_id.is_(None)
    )
    if before is not None:
        statement = statement.where(Job.id < before)
    return session.scalars(statement.order_by(Job.id.desc()).limit(limit)).all()


def _list_labelled(
    session: Session,
    api_key_id: uuid.UUID,
    metadata: Mapping[str, str],
    before: uuid.UUID | None,
    limit: int,
) -> Sequence[Job]:
    """The same by metadata. The first label leads, in the order of its index; each further one is
    looked up by its primary key.
    """
    labels = [aliased(JobLabel) for _ in metadata]
    first = labels[0]
    statement = (
        sa.select(Job)
        .join(first, first.job_id == Job.id)
        .where(Job.deleted_at.is_(None), Job.of_job_id.is_(None))
    )
    for label, (name, value) in zip(labels, metadata.items(), strict=True):
        is_given = (label.api_key_id == api_key_id, label.name == name, label.value == value)
        if label is first:
            statement = statement.where(*is_given)
        else:
            found = sa.select(label.job_id).where(*is_given, label.job_id == first.job_id)
            statement = statement.where(found.exists())
    if before is not None:
        statement = statement.where(first.job_id < before)
    return session.scalars(statement.order_by(first.job_id.desc()).limit(limit)).all()


@dataclass(frozen=True, slots=True)
class Rate:
    """The recent speed of processing."""

    images_per_s: float
    megapixels_per_s: float


RATE_JOBS = 20
RATE_WITHIN_S = 7 * 86_400


def recent_rate(session: Session) -> Rate | None:
    """The rate of the newest jobs of the last days, of all callers; None if there are none. Jobs
    are found by their ids, which contain the time of creation.
    """
    since = now(session) - timedelta(seconds=RATE_WITHIN_S)
    statement = (
        sa.select(Job)
        .where(Job.id > first_id_of(since), Job.progressed_at > since, Job.succeeded > 0)
        .where(Job.of_job_id.is_(None))
        .order_by(Job.id.desc())
        .limit(RATE_JOBS)
    )
    images, pixels, seconds = 0, 0, 0.0
    for job in session.scalars(statement):
        if job.started_at and job.progressed_at:
            images += job.succeeded + job.failed
            pixels += job.pixels
            seconds += max(0.05, (job.progressed_at - job.started_at).total_seconds())
    return Rate(images / seconds, pixels / 1e6 / seconds) if images else None


def get_item(
    session: Session, item_id: uuid.UUID, *, api_key_id: uuid.UUID
) -> tuple[Item, dict[str, Any]] | None:
    """The item and its job's options, if this key submitted it."""
    row = session.execute(
        sa.select(Item, Job.options)
        .join(Job, Job.id == Item.job_id)
        .where(
            Item.id == item_id,
            Job.api_key_id == api_key_id,
            Job.deleted_at.is_(None),
            Job.of_job_id.is_(None),
        )
    ).one_or_none()
    return None if row is None else (row.Item, row.options)


def list_items(
    session: Session,
    job_id: uuid.UUID,
    *,
    status: ItemStatus | None,
    review: str | None = None,
    custom_id: str | None = None,
    after: int,
    limit: int,
) -> Sequence[Item]:
    """A page of a job's items in the order of their source, after position `after`. `review` is a
    word of shared.job_store.review.review_filter.
    """
    statement = sa.select(Item).where(Item.job_id == job_id, Item.position > after)
    if status is not None:
        statement = statement.where(Item.status == status)
    if review is not None:
        statement = statement.where(*review_filter(review))
    if custom_id is not None:
        statement = statement.where(Item.custom_id == custom_id)
    return session.scalars(statement.order_by(Item.position).limit(limit)).all()


def find_items(
    session: Session,
    custom_id: str,
    *,
    api_key_id: uuid.UUID,
    before: uuid.UUID | None,
    limit: int,
) -> Sequence[tuple[Item, dict[str, Any]]]:
    """A page of the key's items with this id of the caller's, newest first, created before the item
    `before`; each with its job's options.
    """
    statement = (
        sa.select(Item, Job.options)
        .join(Job, Job.id == Item.job_id)
        .where(Item.api_key_id == api_key_id, Item.custom_id == custom_id, Job.deleted_at.is_(None))
    )
    if before is not None:
        statement = statement.where(Item.id < before)
    rows = session.execute(statement.order_by(Item.id.desc()).limit(limit))
    return [(row.Item, row.options) for row in rows]


def ended_jobs_among(session: Session, job_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """The jobs that have ended or no longer exist."""
    going = sa.select(Job.id).where(
        Job.id.in_(job_ids), Job.status.not_in(ENDED), Job.deleted_at.is_(None)
    )
    return set(job_ids) - set(session.scalars(going))
