"""What has to go onto the queue, and what is on it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.job_store.conditions import is_open, is_value
from shared.job_store.locks import locked_items
from shared.jobs import ENDED, ItemStatus
from shared.models import Item, Job

EXPRESS_IMAGES = 8
"""The first images of every job overtake the rest of all: a small job waits for no backlog,
whatever that one's priority, and a big one shows its first results at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishableItem:
    """An item that is due on the queue."""

    item_id: uuid.UUID
    job_id: uuid.UUID
    name: str
    priority: int
    express: bool
    """One of its job's first images."""
    model: str | None
    """What its options name."""
    attempts: int
    """Tries before this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJobs:
    """A page of the jobs that go on, by their ids."""

    publishable: list[uuid.UUID]
    """Those of the page with room on the queue and an image that is due."""
    last: uuid.UUID | None
    """Where the next page begins; None: this was the last one."""


def open_jobs(session: Session, *, after: uuid.UUID | None, limit: int, ahead: int) -> OpenJobs:
    """Look at up to `limit` open jobs behind the job `after`."""
    page = sa.select(Job.id, Job.queued, Job.running).where(is_open())
    if after is not None:
        page = page.where(Job.id > after)
    jobs = page.order_by(Job.id).limit(limit).subquery("page")
    on_queue = _on_queue(jobs.c.id, ahead)
    due = sa.or_(_fresh(jobs.c.id).exists(), _due_again(jobs.c.id, now(session)).exists())
    statement = sa.select(
        jobs.c.id,
        sa.and_(jobs.c.queued > 0, jobs.c.running + on_queue < ahead, due).label("publishable"),
    ).order_by(jobs.c.id)
    rows = session.execute(statement).all()
    return OpenJobs(
        publishable=[row.id for row in rows if row.publishable],
        last=rows[-1].id if len(rows) == limit else None,
    )


def unexpanded_jobs(session: Session) -> list[uuid.UUID]:
    """The jobs whose source is not listed to its end."""
    statement = (
        sa.select(Job.id)
        .where(Job.status.not_in(ENDED), Job.expanded_at.is_(None))
        .order_by(Job.id)
    )
    return list(session.scalars(statement))


def publishable(session: Session, job_id: uuid.UUID, *, ahead: int) -> list[PublishableItem]:
    """The items of a job that are due and not on the queue, at most so many that `ahead` are on it
    or with workers. Those that are due for another try come first.
    """
    model = Job.options["model"].as_string()
    job = session.execute(
        sa.select(Job.priority, model.label("model"), Job.running, _on_queue(job_id, ahead)).where(
            Job.id == job_id
        )
    ).one_or_none()
    room = 0 if job is None else ahead - job.running - job[3]
    if job is None or room <= 0:
        return []
    again = _due_again(job_id, now(session)).order_by(Item.not_before).limit(room)
    rows = list(session.execute(again))
    if len(rows) < room:
        fresh = _fresh(job_id).order_by(Item.position).limit(room - len(rows))
        rows += session.execute(fresh)
    return [
        PublishableItem(
            item_id=row.id,
            job_id=job_id,
            name=row.name,
            priority=job.priority,
            express=row.position <= EXPRESS_IMAGES,
            model=row.model or job.model,
            attempts=row.attempts,
        )
        for row in rows
    ]


_ROW = (
    Item.id,
    Item.name,
    Item.position,
    Item.attempts,
    Item.options["model"].as_string().label("model"),
)

JobId = uuid.UUID | sa.ColumnElement[uuid.UUID]


def _on_queue(job_id: JobId, ahead: int) -> sa.ScalarSelect[int]:
    """How many messages of a job no worker has taken, `ahead` at most."""
    some = sa.select(Item.job_id).where(
        Item.job_id == job_id,
        is_value(Item.status, ItemStatus.QUEUED),
        Item.published_at.is_not(None),
    )
    counted = some.correlate_except(Item).limit(ahead).subquery()
    return sa.select(sa.func.count()).select_from(counted).scalar_subquery()


def _fresh(job_id: JobId) -> sa.Select[Any]:
    """A job's items that are not on the queue and need not wait."""
    return (
        sa.select(*_ROW)
        .where(
            Item.job_id == job_id,
            is_value(Item.status, ItemStatus.QUEUED),
            Item.published_at.is_(None),
            Item.not_before.is_(None),
        )
        .correlate_except(Item)
    )


def _due_again(job_id: JobId, moment: datetime) -> sa.Select[Any]:
    """A job's items whose wait before another try is over."""
    return (
        sa.select(*_ROW)
        .where(
            Item.job_id == job_id,
            is_value(Item.status, ItemStatus.QUEUED),
            Item.published_at.is_(None),
            Item.not_before <= moment,
        )
        .correlate_except(Item)
    )


def mark_published_many(session: Session, sent: Sequence[PublishableItem]) -> None:
    """Note that these items' messages are on the queue. Not of what was tried meanwhile and waits
    again: its message is used up, and it would wait for it in vain.
    """
    attempts = {one.item_id: one.attempts for one in sent}
    statement = (
        sa.select(Item.id, Item.attempts)
        .where(Item.id.in_(attempts), Item.status == ItemStatus.QUEUED)
        .order_by(Item.id)
        .with_for_update()
    )
    unclaimed = [row.id for row in session.execute(statement) if row.attempts == attempts[row.id]]
    session.execute(
        sa.update(Item)
        .where(Item.id.in_(unclaimed))
        .values(published_at=now(session))
        .execution_options(synchronize_session=False)
    )


def forget_publication(session: Session, *, older_than_s: float, limit: int = 2_000) -> int:
    """Let up to `limit` items be published again whose message was sent that long ago and never
    claimed: Redis may have lost it. A message that was only slow then comes twice, which harms
    nothing. Returns how many items.
    """
    lost = sa.select(Item.id).where(
        is_value(Item.status, ItemStatus.QUEUED),
        Item.published_at < now(session) - timedelta(seconds=older_than_s),
    )
    oldest = lost.order_by(Item.published_at).limit(limit)
    result = session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(Item.id.in_(oldest), Item.status == ItemStatus.QUEUED)))
        .values(published_at=None)
        .execution_options(synchronize_session=False)
    )
    return int(getattr(result, "rowcount", 0))
