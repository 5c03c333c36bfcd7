"""Removal of jobs: which are due, which of their uploads other jobs still use, and their rows.

Everything happens in pages: no statement removes more rows than its limit.
"""

import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.database import now
from shared.job_store.conditions import each_text, is_value, names_upload
from shared.job_store.locks import lock_jobs
from shared.job_store.segments import is_of_segments
from shared.job_store.webhooks import lock_webhooks
from shared.jobs import ENDED, ItemStatus
from shared.models import Delivery, Item, Job, Watch, Webhook, place_of
from shared.webhooks import DeliveryStatus


def expire_jobs(session: Session, *, older_than_s: float, limit: int) -> int:
    """Mark up to `limit` jobs that ended before that time as deleted, oldest first; returns how
    many. Versions go with the job of their item.
    """
    moment = now(session)
    before = moment - timedelta(seconds=older_than_s)
    due = sa.select(Job.id).where(
        Job.deleted_at.is_(None), Job.finished_at < before, Job.of_job_id.is_(None)
    )
    ids = list(session.scalars(due.order_by(Job.finished_at).limit(limit)))
    expired = [
        job
        for job in lock_jobs(session, ids).values()
        if job.status in ENDED and job.deleted_at is None
    ]
    for job in expired:
        job.deleted_at, job.pending_change = moment, None
    session.flush()
    return len(expired)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedJobs:
    """The jobs to remove."""

    removable: list[uuid.UUID]
    in_use: bool
    """Workers still hold images of other deleted jobs."""


def deleted_jobs(
    session: Session, *, limit: int, but_for: Collection[uuid.UUID] = ()
) -> DeletedJobs:
    """The first `limit` deleted jobs of which no worker holds an image, `but_for` these."""
    statement = (
        sa.select(Job.id, sa.or_(Job.running > 0, _is_joined()).label("in_use"))
        .where(Job.deleted_at.is_not(None), Job.id.not_in(but_for))
        .order_by(Job.deleted_at)
        .limit(10 * limit)
    )
    rows = session.execute(statement).all()
    return DeletedJobs(
        removable=[row.id for row in rows if not row.in_use][:limit],
        in_use=any(row.in_use for row in rows),
    )


def _is_joined() -> sa.ColumnElement[bool]:
    """Whether a worker holds the clip whose segments a job holds: its join reads their mattes, and
    may store parts beside them.
    """
    held = sa.select(Item.id).where(
        Item.id == Job.of_item_id, is_value(Item.status, ItemStatus.RUNNING)
    )
    return sa.and_(is_of_segments(), held.exists())


def sources_of(
    session: Session, job_id: uuid.UUID, *, after: int, limit: int
) -> list[tuple[int, str]]:
    """Position and source of a job's items, in pages."""
    statement = (
        sa.select(Item.position, Item.source)
        .where(Item.job_id == job_id, Item.position > after)
        .order_by(Item.position)
        .limit(limit)
    )
    return [(row.position, place_of(row.source)) for row in session.execute(statement)]


def sources_still_needed(
    session: Session, uploads: Sequence[str], *, but_for: uuid.UUID
) -> set[str]:
    """The uploads that another job of the same key uses, as a photo or as its manifest
    or zip file; not those in its options (`uploads_in_options`).
    """
    owner = sa.select(Job.api_key_id).where(Job.id == but_for).scalar_subquery()
    return _named(session, uploads, Job.api_key_id == owner, Job.id != but_for)


def sources_named_by_jobs(session: Session, uploads: Sequence[str]) -> set[str]:
    """The uploads that any job uses as a photo or as its list."""
    return _named(session, uploads)


def _named(session: Session, uploads: Sequence[str], *of_jobs: sa.ColumnElement[bool]) -> set[str]:
    """One index lookup for each, however often it is used."""
    if not uploads:
        return set()
    given = each_text(session, uploads)
    photo = (
        sa.select(Item.id)
        .join(Job, Job.id == Item.job_id)
        .where(
            Item.source == given.c.value,
            names_upload(Item.source),
            Job.deleted_at.is_(None),
            *of_jobs,
        )
        .limit(1)
        .correlate(given)
        .scalar_subquery()
    )
    listed = (
        sa.select(Job.id)
        .where(
            sa.literal_column("jobs.source ->> 'object'") == given.c.value,
            Job.deleted_at.is_(None),
            *of_jobs,
        )
        .limit(1)
        .correlate(given)
        .scalar_subquery()
    )
    named = sa.select(given.c.value).where(sa.or_(photo.is_not(None), listed.is_not(None)))
    return set(session.scalars(named))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedUploads:
    """A page of uploads named in options."""

    named: set[tuple[str, uuid.UUID]]
    """Each with the job or watch that names it; a version's is the job of which it is one."""
    last: uuid.UUID | None
    """The last row that was read; None: there was none."""


def uploads_in_options(
    session: Session,
    table: type[Job] | type[Item] | type[Watch],
    prefix: str,
    *,
    after: uuid.UUID | None,
    limit: int,
) -> NamedUploads:
    """The uploads in options of jobs, single images or watches (background pictures), in pages by
    id after the id `after`.
    """
    options: InstrumentedAttribute[Any] = table.options
    by: sa.ColumnElement[uuid.UUID] | InstrumentedAttribute[uuid.UUID]
    if table is Job:
        by = sa.func.coalesce(Job.of_job_id, Job.id)
    else:
        by = Item.job_id if table is Item else Watch.id
    named = sa.select(table.id, by.label("by"), options).where(
        names_upload(sa.cast(options, sa.Text))
    )
    if after is not None:
        named = named.where(table.id > after)
    rows = session.execute(named.order_by(table.id).limit(limit)).all()
    return NamedUploads(
        named={
            (text, row.by)
            for row in rows
            for text in _texts(row.options)
            if text.startswith(prefix)
        },
        last=rows[-1].id if rows else None,
    )


def not_deleted(session: Session, ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the ids that are of a job or a watch that was not deleted."""
    tables: tuple[type[Job] | type[Watch], ...] = (Job, Watch)
    return {
        one
        for table in tables
        for one in session.scalars(
            sa.select(table.id).where(table.id.in_(ids), table.deleted_at.is_(None))
        )
    }


def _texts(value: Any) -> Iterator[str]:
    """All texts of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def remove_items(session: Session, job_id: uuid.UUID, *, limit: int, after: int = 0) -> list[int]:
    """Remove up to `limit` items of a deleted job, those behind the position `after`. Returns their
    positions, in their order.

    Without `after` each page would read past the rows that the pages before have removed: at
    400,000 images that took up to 0.2 s a page.
    """
    page = sa.select(Item.id, Item.position).where(Item.job_id == job_id, Item.position > after)
    rows = session.execute(page.order_by(Item.position).limit(limit)).all()
    session.execute(
        sa.delete(Item)
        .where(Item.id.in_([row.id for row in rows]))
        .execution_options(synchronize_session=False)
    )
    return [row.position for row in rows]


def existing_jobs(session: Session, job_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """The ids that have a job, including deleted jobs that were not removed yet."""
    return set(session.scalars(sa.select(Job.id).where(Job.id.in_(job_ids))))


def remove_job(session: Session, job_id: uuid.UUID) -> None:
    """Remove a deleted job without items, its ended deliveries, and webhooks of this job only.
    Pending deliveries stay until they are sent.
    """
    job = lock_jobs(session, [job_id]).get(job_id)
    if job is None or job.deleted_at is None:
        return
    told_of_it = sa.select(Delivery.webhook_id).where(Delivery.job_id == job_id).distinct()
    lock_webhooks(session, session.scalars(told_of_it))
    session.execute(
        sa.delete(Delivery).where(
            Delivery.job_id == job_id, Delivery.status != DeliveryStatus.PENDING
        )
    )
    told = sa.select(Delivery.id).where(Delivery.webhook_id == Webhook.id)
    session.execute(
        sa.delete(Webhook).where(
            Webhook.api_key_id == job.api_key_id, Webhook.job_id == job_id, ~told.exists()
        )
    )
    session.execute(sa.delete(Job).where(Job.id == job_id))
