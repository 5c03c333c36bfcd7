"""What has to go onto the queue, and what is on it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.database import now
from shared.job_store.conditions import is_open, is_value
from shared.jobs import ENDED, ItemStatus
from shared.models import Item, Job

EXPRESS_IMAGES = 8
"""The first images of a job overtake the rest of all: a small job waits for no backlog, whatever
that one's priority, and a big one shows its first results at once (shared.shares)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJob:
    """A job that goes on, as far as its share of the queue depends on it."""

    job_id: uuid.UUID
    api_key_id: uuid.UUID
    model: str | None
    """What its options name."""
    total: int
    queued: int
    unsettled: int

    @property
    def express_left(self) -> int:
        """Of its first images, how many are still to be done."""
        settled = self.total - self.unsettled
        return max(0, min(EXPRESS_IMAGES, self.total) - settled)


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
    by_url: bool
    """Whether it comes from a URL, not from the storage."""
    attempts: int
    """Tries before this one."""


def open_jobs(session: Session) -> list[OpenJob]:
    """The jobs that go on and have images left to do, the oldest first."""
    statement = (
        sa.select(
            Job.id,
            Job.api_key_id,
            Job.options["model"].as_string().label("model"),
            Job.total,
            Job.queued,
            (Job.queued + Job.running).label("unsettled"),
        )
        .where(is_open(), Job.queued + Job.running > 0)
        .order_by(Job.id)
    )
    return [
        OpenJob(
            job_id=row.id,
            api_key_id=row.api_key_id,
            model=row.model,
            total=row.total,
            queued=row.queued,
            unsettled=row.unsettled,
        )
        for row in session.execute(statement)
    ]


def unexpanded_jobs(session: Session) -> list[uuid.UUID]:
    """The jobs whose source is not listed to its end."""
    statement = (
        sa.select(Job.id)
        .where(Job.status.not_in(ENDED), Job.expanded_at.is_(None))
        .order_by(Job.id)
    )
    return list(session.scalars(statement))


def jobs_to_publish(session: Session, ahead: Mapping[uuid.UUID, int]) -> list[uuid.UUID]:
    """Those of the jobs that have fewer messages out than `ahead` says for each, and an image that
    is due: most have not, and one statement tells so for all.
    """
    if not ahead:
        return []
    due = sa.or_(_is_any(_fresh(Job.id)), _is_any(_due_again(Job.id, now(session))))
    out = Job.running + _on_queue(Job.id, max(ahead.values()))
    statement = sa.select(Job.id, out.label("out")).where(Job.id.in_(ahead), due).order_by(Job.id)
    return [row.id for row in session.execute(statement) if row.out < ahead[row.id]]


def publishable(
    session: Session, job_id: uuid.UUID, *, ahead: int, express: int = EXPRESS_IMAGES
) -> list[PublishableItem]:
    """The items of a job that are due and not on the queue, at most so many that `ahead` are there
    or with workers; of its first images those up to the position `express`. What is due for another
    try comes first.
    """
    model = Job.options["model"].as_string().label("model")
    out = (Job.running + _on_queue(Job.id, ahead)).label("out")
    job = session.execute(sa.select(Job.priority, model, out).where(Job.id == job_id)).one_or_none()
    room = 0 if job is None else ahead - job.out
    if job is None or room <= 0:
        return []
    may_go = sa.or_(Item.position <= express, Item.position > EXPRESS_IMAGES)
    again = _due_again(job_id, now(session)).where(may_go).order_by(Item.not_before)
    rows = list(session.execute(again.limit(room)))
    if len(rows) < room:
        fresh = _fresh(job_id).where(may_go).order_by(Item.position)
        rows += session.execute(fresh.limit(room - len(rows)))
    return [
        PublishableItem(
            item_id=row.id,
            job_id=job_id,
            name=row.name,
            priority=job.priority,
            express=row.position <= EXPRESS_IMAGES,
            model=row.model or job.model,
            by_url=row.by_url,
            attempts=row.attempts,
        )
        for row in rows
    ]


JobId = uuid.UUID | InstrumentedAttribute[uuid.UUID]

_ITEM = (
    Item.id,
    Item.name,
    Item.position,
    Item.attempts,
    Item.options["model"].as_string().label("model"),
    Item.source.not_like("s3://%").label("by_url"),
)


def _on_queue(job_id: JobId, most: int) -> sa.ScalarSelect[int]:
    """How many messages of a job no worker has taken, `most` at most."""
    some = sa.select(Item.job_id).where(
        Item.job_id == job_id,
        is_value(Item.status, ItemStatus.QUEUED),
        Item.published_at.is_not(None),
    )
    counted = some.correlate_except(Item).limit(most).subquery()
    return sa.select(sa.func.count()).select_from(counted).scalar_subquery()


def _fresh(job_id: JobId) -> sa.Select[Any]:
    """A job's items that are not on the queue and need not wait."""
    return _unpublished(job_id, Item.not_before.is_(None))


def _due_again(job_id: JobId, moment: datetime) -> sa.Select[Any]:
    """A job's items whose wait before another try is over."""
    return _unpublished(job_id, Item.not_before <= moment)


def _is_any(items: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """One look into an index. EXISTS in an OR may read the items of all jobs, to hash them."""
    return items.with_only_columns(Item.id).limit(1).scalar_subquery().is_not(None)


def _unpublished(job_id: JobId, *which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(*_ITEM)
        .where(
            Item.job_id == job_id,
            is_value(Item.status, ItemStatus.QUEUED),
            Item.published_at.is_(None),
            *which,
        )
        .correlate_except(Item)
    )


def mark_published_many(session: Session, sent: Sequence[PublishableItem]) -> None:
    """Note that these items' messages are on the queue. Not of what was tried meanwhile and waits
    again: its message is used up, and it would wait for it in vain.
    """
    _set_published(session, {one.item_id: one.attempts for one in sent}, now(session))


def _set_published(
    session: Session, attempts: Mapping[uuid.UUID, int], moment: datetime | None
) -> int:
    """Of those items that wait and were tried as often as it says; returns how many."""
    statement = (
        sa.select(Item.id, Item.attempts)
        .where(Item.id.in_(attempts), Item.status == ItemStatus.QUEUED)
        .order_by(Item.id)
        .with_for_update()
    )
    same = [row.id for row in session.execute(statement) if row.attempts == attempts[row.id]]
    session.execute(
        sa.update(Item)
        .where(Item.id.in_(same))
        .values(published_at=moment)
        .execution_options(synchronize_session=False)
    )
    return len(same)


@dataclass(frozen=True, slots=True)
class Sent:
    """An item whose message was sent and never claimed."""

    item_id: uuid.UUID
    attempts: int
    """Tries before."""
    model: str | None
    """Whose queue it was sent to."""
    by_url: bool
    """Whether it comes from a URL: such images have queues of their own."""


def unclaimed(session: Session, *, older_than_s: float, limit: int) -> list[Sent]:
    """What was sent that long ago and never claimed, the oldest first."""
    model = sa.func.coalesce(
        Item.options["model"].as_string(), Job.options["model"].as_string()
    ).label("model")
    statement = (
        sa.select(Item.id, Item.attempts, model, Item.source.not_like("s3://%").label("by_url"))
        .join(Job, Job.id == Item.job_id)
        .where(
            is_value(Item.status, ItemStatus.QUEUED),
            Item.published_at < now(session) - timedelta(seconds=older_than_s),
        )
        .order_by(Item.published_at)
        .limit(limit)
    )
    return [Sent(row.id, row.attempts, row.model, row.by_url) for row in session.execute(statement)]


def forget_publications(session: Session, lost: Sequence[Sent]) -> int:
    """Let these items be published again; not what was tried meanwhile. Returns how many."""
    return _set_published(session, {one.item_id: one.attempts for one in lost}, None)
