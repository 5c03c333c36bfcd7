"""Finds the jobs of a customer, and what is left of them, for privacy requests."""

import uuid
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.models import Item, Job, JobLabel


def jobs_to_purge(
    session: Session, *, api_key_id: uuid.UUID | None, labels: Mapping[str, str]
) -> list[uuid.UUID]:
    """The jobs of a key, or with all these labels, or both; deleted ones too, as long as they have
    rows. Versions go with the job of their item.
    """
    statement = sa.select(Job.id).where(Job.of_job_id.is_(None)).order_by(Job.id)
    if api_key_id is not None:
        statement = statement.where(Job.api_key_id == api_key_id)
    for name, value in labels.items():
        labelled = sa.select(JobLabel.job_id).where(JobLabel.name == name, JobLabel.value == value)
        statement = statement.where(Job.id.in_(labelled))
    return list(session.scalars(statement))


def images_of_jobs(session: Session, job_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Those of these jobs that still have a row, with the number of their images."""
    counted = (
        sa.select(Job.id, sa.func.count(Item.id))
        .outerjoin(Item, Item.job_id == Job.id)
        .where(Job.id.in_(job_ids))
        .group_by(Job.id)
    )
    return {row[0]: int(row[1]) for row in session.execute(counted)}


def jobs_with_destination(session: Session, job_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Those of these jobs whose results were also written to a place of the caller's own."""
    named = sa.select(Job.id).where(Job.id.in_(job_ids), Job.destination.is_not(None))
    return list(session.scalars(named.order_by(Job.id)))


def keys_of_jobs(session: Session, job_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
    """The API key of each of these jobs."""
    rows = session.execute(sa.select(Job.id, Job.api_key_id).where(Job.id.in_(job_ids)))
    return {row[0]: row[1] for row in rows}
