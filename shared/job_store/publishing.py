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
    by_url: bool
    """Whether it comes from a URL, not from the storage."""
    attempts: int
    """Tries before this one."""


def open_jobs(session: Session) -> list[uuid.UUID]:
    """The jobs that go on and still have images waiting."""
    statement = sa.select(Job.id).where(Job.status.not_in(HELD), Job.queued > 0).order_by(Job.id)
    return list(session.scalars(statement))


def unexpanded_jobs(session: Session) -> list[uuid.UUID]:
    """The jobs whose source is not listed to its end."""
    statement = (
        sa.select(Job.id)
        .where(Job.status.not_in(ENDED), Job.expanded_at.is_(None))
        .order_by(Job.id)
    )
    return list(session.scalars(statement))


def publishable(session: Session, job_id: uuid.UUID, *, ahead: int) -> list[PublishableItem]:
    """The items of a job that are due and not on the queue, at most so many that `ahead` are."""
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
            Item.source.not_like("s3://%").label("by_url"),
        )
        .join(Job, Job.id == Item.job_id)
        .where(
            Item.job_id == job_id,
            Item.status == ItemStatus.QUEUED,
            Item.published_at.is_(None),
            sa.or_(Item.not_before.is_(None), Item.not_before <= now(session)),
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


def forget_publication(session: Session, *, older_than_s: float) -> int:
    """Let items be published again whose message was sent that long ago and never claimed: Redis
    may have lost it. A message that was only slow then comes twice, which harms nothing.
    """
    result = session.execute(
        sa.update(Item)
        .where(
            Item.id.in_(
                locked_items(
                    Item.status == ItemStatus.QUEUED,
                    Item.published_at < now(session) - timedelta(seconds=older_than_s),
                )
            )
        )
        .values(published_at=None)
        .execution_options(synchronize_session=False)
    )
    return int(getattr(result, "rowcount", 0))
