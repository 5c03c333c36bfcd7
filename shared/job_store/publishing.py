"""What has to go onto the queue, and what is on it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.job_store.locks import locked_items
from shared.jobs import ENDED, HELD, ItemStatus
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
        .where(Job.status.not_in(HELD), Job.queued + Job.running > 0)
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


def publishable(
    session: Session, job_id: uuid.UUID, *, ahead: int, express: int = EXPRESS_IMAGES
) -> list[PublishableItem]:
    """The items of a job that are due and not on the queue, at most so many that `ahead` are; of
    its first images those up to the position `express`.
    """
    on_queue = sa.select(sa.literal(1)).where(
        Item.job_id == job_id,
        Item.status.in_((ItemStatus.QUEUED, ItemStatus.RUNNING)),
        Item.published_at.is_not(None),
    )
    count = session.scalar(sa.select(sa.func.count()).select_from(on_queue.limit(ahead).subquery()))
    room = ahead - (count or 0)
    if room <= 0:
        return []
    model = sa.func.coalesce(
        Item.options["model"].as_string(), Job.options["model"].as_string()
    ).label("model")
    statement = (
        sa.select(
            Item.id,
            Item.job_id,
            Item.name,
            Item.position,
            Item.attempts,
            Job.priority,
            model,
            _by_url(),
        )
        .join(Job, Job.id == Item.job_id)
        .where(
            Item.job_id == job_id,
            Item.status == ItemStatus.QUEUED,
            Item.published_at.is_(None),
            sa.or_(Item.not_before.is_(None), Item.not_before <= now(session)),
            sa.or_(Item.position <= express, Item.position > EXPRESS_IMAGES),
        )
        .order_by(Item.position)
        .limit(room)
    )
    return [
        PublishableItem(
            item_id=row.id,
            job_id=row.job_id,
            name=row.name,
            priority=row.priority,
            express=row.position <= EXPRESS_IMAGES,
            model=row.model,
            by_url=row.by_url,
            attempts=row.attempts,
        )
        for row in session.execute(statement)
    ]


def mark_published_many(session: Session, sent: Sequence[PublishableItem]) -> None:
    """Note that these items' messages are on the queue. Not of what was tried meanwhile and waits
    again: its message is used up, and it would wait for it in vain.
    """
    unclaimed = sa.tuple_(Item.id, Item.attempts).in_([(one.item_id, one.attempts) for one in sent])
    session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(unclaimed, Item.status == ItemStatus.QUEUED)))
        .values(published_at=now(session))
        .execution_options(synchronize_session=False)
    )


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
        sa.select(Item.id, Item.attempts, model, _by_url())
        .join(Job, Job.id == Item.job_id)
        .where(
            Item.status == ItemStatus.QUEUED,
            Item.published_at < now(session) - timedelta(seconds=older_than_s),
        )
        .order_by(Item.published_at)
        .limit(limit)
    )
    return [Sent(row.id, row.attempts, row.model, row.by_url) for row in session.execute(statement)]


def forget_publications(session: Session, lost: Sequence[Sent]) -> int:
    """Let these items be published again; not what was tried meanwhile. Returns how many."""
    same = sa.tuple_(Item.id, Item.attempts).in_([(one.item_id, one.attempts) for one in lost])
    result = session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(same, Item.status == ItemStatus.QUEUED)))
        .values(published_at=None)
        .execution_options(synchronize_session=False)
    )
    return int(getattr(result, "rowcount", 0))


def _by_url() -> sa.Label[bool]:
    return Item.source.not_like("s3://%").label("by_url")
