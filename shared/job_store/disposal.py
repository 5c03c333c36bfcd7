"""Jobs on their way out: which are due, what of theirs others still need, and their rows."""

import uuid
from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.jobs import ENDED
from shared.models import Delivery, Item, Job
from shared.webhooks import DeliveryStatus


def expire_jobs(session: Session, *, older_than_s: float) -> int:
    """Mark the jobs that ended that long ago as deleted; returns how many."""
    moment = now(session)
    result = session.execute(
        sa.update(Job)
        .where(
            Job.status.in_(ENDED),
            Job.deleted_at.is_(None),
            Job.finished_at < moment - timedelta(seconds=older_than_s),
        )
        .values(deleted_at=moment)
        .execution_options(synchronize_session=False)
    )
    return int(getattr(result, "rowcount", 0))


def deleted_jobs(session: Session, *, limit: int) -> list[uuid.UUID]:
    """The deleted jobs that no worker has an image of any more."""
    statement = (
        sa.select(Job.id)
        .where(Job.deleted_at.is_not(None), Job.running == 0)
        .order_by(Job.deleted_at)
        .limit(limit)
    )
    return list(session.scalars(statement))


def deleted_in_use(session: Session) -> bool:
    """Whether workers still have images of a deleted job."""
    statement = sa.select(Job.id).where(Job.deleted_at.is_not(None), Job.running > 0)
    return session.scalar(statement.limit(1)) is not None


def sources_under(
    session: Session, job_id: uuid.UUID, prefix: str, *, after: int, limit: int
) -> list[tuple[int, str]]:
    """Position and source of a job's items whose source begins with `prefix`, in pages."""
    statement = (
        sa.select(Item.position, Item.source)
        .where(
            Item.job_id == job_id,
            Item.position > after,
            Item.source.startswith(prefix, autoescape=True),
        )
        .order_by(Item.position)
        .limit(limit)
    )
    return [(row.position, row.source) for row in session.execute(statement)]


def sources_still_needed(
    session: Session, sources: Sequence[str], *, but_for: uuid.UUID
) -> set[str]:
    """Those of the sources that another job of the same key names, as a photo or as the manifest or
    zip file that its photos are listed in.
    """
    owner = sa.select(Job.api_key_id).where(Job.id == but_for).scalar_subquery()
    others = sa.select(Job.id).where(
        Job.api_key_id == owner, Job.id != but_for, Job.deleted_at.is_(None)
    )
    photos = sa.select(Item.source).where(Item.job_id.in_(others), Item.source.in_(sources))
    listed = Job.source["object"].as_string()
    lists = sa.select(listed).where(Job.id.in_(others), listed.in_(sources))
    return {*session.scalars(photos), *session.scalars(lists)}


def objects_named_by_jobs(session: Session, urls: Sequence[str], prefix: str) -> set[str]:
    """Those of the objects that any job names: as a photo, as its list, or in its options.
    `prefix`: of them all.
    """
    kept = sa.select(Job.id).where(Job.deleted_at.is_(None))
    photos = sa.select(Item.source).where(Item.source.in_(urls), Item.job_id.in_(kept))
    lists = sa.select(Job.source["object"].as_string()).where(
        Job.source["object"].as_string().in_(urls), Job.deleted_at.is_(None)
    )
    found = set(session.scalars(photos)) | set(session.scalars(lists))
    for owner, options in ((Job.id, Job.options), (Item.job_id, Item.options)):
        text = sa.cast(options, sa.Text)
        behind = (
            sa.select(text)
            .distinct()
            .where(owner.in_(kept), text.contains(prefix, autoescape=True))
        )
        for one in session.scalars(behind):
            found.update(url for url in urls if url in one)
    return found


def existing_jobs(session: Session, job_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Those of the ids that a job has, also one that was deleted and not yet removed."""
    return set(session.scalars(sa.select(Job.id).where(Job.id.in_(job_ids))))


def remove_job(session: Session, job_id: uuid.UUID) -> None:
    """Remove the rows of a deleted job; its items go with it, and what webhooks were told of it.
    What they are yet to be told stays until it is.
    """
    session.execute(
        sa.delete(Delivery).where(
            Delivery.job_id == job_id, Delivery.status != DeliveryStatus.PENDING
        )
    )
    session.execute(sa.delete(Item).where(Item.job_id == job_id))
    session.execute(sa.delete(Job).where(Job.id == job_id, Job.deleted_at.is_not(None)))
