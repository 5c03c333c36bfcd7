"""Items that come back from workers: those with an expired lease, and those that workers return."""

import uuid
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.clips import passes_of
from shared.database import now
from shared.errors import AttemptsExhaustedError, PoisonousImageError
from shared.job_store.conditions import is_value
from shared.job_store.failed_images import note_failed
from shared.job_store.groups import begin_grouping
from shared.job_store.locks import finish_settled_jobs, lock_jobs, locked_items
from shared.job_store.segments import holds_segments
from shared.jobs import ALONE_DEATHS, ENDED, ItemKind, ItemStatus
from shared.models import Item, Job


def release_expired_leases(session: Session, *, max_attempts: int, limit: int = 500) -> int:
    """Take back items whose lease has expired; returns how many.

    Each one is queued again, or fails if no attempts are left, or is cancelled with its job.
    """
    moment = now(session)
    expired = (
        sa.select(Item.id, Item.job_id, Job.of_job_id)
        .join(Job, Job.id == Item.job_id)
        .where(is_value(Item.status, ItemStatus.RUNNING), Item.lease_expires_at < moment)
        .order_by(Item.lease_expires_at)
        .limit(limit)
    )
    found = session.execute(expired).all()
    if not found:
        return 0
    origins = {row.of_job_id for row in found if row.of_job_id is not None}
    jobs = lock_jobs(session, {row.job_id for row in found} | origins)
    statement = (
        sa.select(Item)
        .where(
            Item.id.in_([row.id for row in found]),
            Item.status == ItemStatus.RUNNING,
            Item.lease_expires_at < moment,
        )
        .order_by(Item.id)
        .with_for_update()
    )
    items = list(session.scalars(statement))
    for item in items:
        job = jobs[item.job_id]
        item.lease_owner = item.lease_expires_at = item.published_at = None
        item.deaths += 1
        job.running -= 1
        if job.status in ENDED:
            item.status, item.finished_at = ItemStatus.CANCELLED, moment
            job.cancelled += 1
        elif item.attempts >= attempts_allowed(
            max_attempts,
            item.forwarded_to,
            passes=(item.measured is not None) + passes_of(item.clip),
        ):
            item.status, item.finished_at = ItemStatus.FAILED, moment
            guilty = item.deaths > ALONE_DEATHS
            error = (PoisonousImageError if guilty else AttemptsExhaustedError)(
                f"Its worker died or stalled in {item.deaths} of {item.attempts} attempts"
                f"{', the last time while it ran alone' * guilty}"
            )
            item.error_code, item.error_detail = error.code, error.message
            job.failed += 1
            if not holds_segments(job):  # the clip fails with its segment
                note_failed(session, item)
            if item.kind is ItemKind.TURNTABLE:
                job.turntables_left = max(0, job.turntables_left - 1)
            elif item.group_name is not None:
                begin_grouping(session, job)
            job.suspect = job.suspect or guilty
        else:
            item.status = ItemStatus.QUEUED
            job.queued += 1
    finish_settled_jobs(session, jobs.values())
    return len(items)


def attempts_allowed(max_attempts: int, forwarded_to: str | None, *, passes: int = 0) -> int:
    """The claims that an image may have. The one that forwarded it does not count, nor do `passes`,
    which measured it for its group or got on with a clip.
    """
    return max_attempts + (forwarded_to is not None) + passes


def give_back(
    session: Session, items: Mapping[uuid.UUID, uuid.UUID], *, owner: str
) -> set[uuid.UUID]:
    """Return items (each with its job) that their worker holds but cannot record, as if the attempt
    had not happened: the worker is alive, the database was unavailable. Returns the returned ids;
    the other items are not the worker's.
    """
    moment = now(session)
    jobs = lock_jobs(session, items.values())
    statement = (
        sa.select(Item)
        .where(Item.id.in_(items), Item.status == ItemStatus.RUNNING, Item.lease_owner == owner)
        .order_by(Item.id)
        .with_for_update()
    )
    found = list(session.scalars(statement))
    for item in found:
        job = jobs[item.job_id]
        item.lease_owner = item.lease_expires_at = item.published_at = None
        item.attempts -= 1
        job.running -= 1
        if job.status in ENDED:
            item.status, item.finished_at = ItemStatus.CANCELLED, moment
            job.cancelled += 1
        else:
            item.status = ItemStatus.QUEUED
            job.queued += 1
    finish_settled_jobs(session, jobs.values())
    return {item.id for item in found}


def take_back_deaths(session: Session, item_ids: Collection[uuid.UUID]) -> None:
    """Correct the deaths of items whose lease expired although their worker is alive: it was
    stopped, or cut off from the database. Ended items stay unchanged.
    """
    session.execute(
        sa.update(Item)
        .where(
            Item.id.in_(
                locked_items(
                    Item.id.in_(item_ids),
                    Item.status.in_((ItemStatus.QUEUED, ItemStatus.RUNNING)),
                    Item.deaths > 0,
                )
            )
        )
        .values(deaths=Item.deaths - 1)
        .execution_options(synchronize_session=False)
    )
