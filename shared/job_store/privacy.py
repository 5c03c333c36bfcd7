"""Finds the jobs of a customer, and what is left of them, for privacy requests."""

import uuid
from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.models import Job, JobLabel


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


def jobs_left(session: Session, job_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Those of these jobs that still have a row."""
    return [
        one for page in _pages(job_ids) for one in session.scalars(sa.select(Job.id).where(page))
    ]


def images_of_jobs(session: Session, job_ids: Sequence[uuid.UUID]) -> int:
    """How many images these jobs have, with those whose rows are removed already."""
    total = sa.select(sa.func.coalesce(sa.func.sum(Job.total), 0))
    return sum(int(session.scalar(total.where(page)) or 0) for page in _pages(job_ids))


def jobs_with_destination(session: Session, job_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Those of these jobs whose results were also written to a place of the caller's own."""
    named = sa.select(Job.id).where(Job.destination.is_not(None)).order_by(Job.id)
    return [one for page in _pages(job_ids) for one in session.scalars(named.where(page))]


PAGE_JOBS = 1_000
"""Jobs of one statement. A key may have more than a statement of PostgreSQL has parameters
(65,535).
"""


def _pages(job_ids: Sequence[uuid.UUID]) -> Iterator[sa.ColumnElement[bool]]:
    """The conditions for pages of these jobs."""
    for start in range(0, len(job_ids), PAGE_JOBS):
        yield Job.id.in_(job_ids[start : start + PAGE_JOBS])


def keys_of_jobs(session: Session, job_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
    """The API key of each of these jobs."""
    rows = session.execute(sa.select(Job.id, Job.api_key_id).where(Job.id.in_(job_ids)))
    return {row[0]: row[1] for row in rows}
