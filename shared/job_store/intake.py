"""How a job and its items come in."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.job_store.locks import lock_jobs, settle_jobs
from shared.jobs import ItemStatus
from shared.models import Item, Job, new_id

INSERT_ROWS = 500
"""Rows of one INSERT: below SQLite's 32,766 bound values, large enough that round trips vanish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An image to be matted."""

    name: str
    """The path that the caller knows it by."""
    source: str
    """`s3://bucket/key`; the same one twice in a job is one item."""


def create_job(
    session: Session,
    *,
    api_key_id: uuid.UUID,
    options: dict[str, Any],
    priority: int,
    labels: dict[str, Any],
    source: dict[str, Any],
    job_id: uuid.UUID | None = None,
) -> Job:
    """Add a job with no items yet."""
    job = Job(
        id=job_id or new_id(),
        api_key_id=api_key_id,
        options=options,
        priority=priority,
        labels=labels,
        source=source,
        created_at=now(session),
    )
    session.add(job)
    session.flush()
    return job


def add_items(session: Session, job_id: uuid.UUID, items: Iterable[NewItem]) -> int:
    """Add items behind those the job has, count them, and return how many were new."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    job = lock_jobs(session, [job_id])[job_id]
    position = (
        session.scalar(sa.select(sa.func.max(Item.position)).where(Item.job_id == job_id)) or 0
    )
    created_at = now(session)
    rows = [
        {
            "id": new_id(),
            "job_id": job_id,
            "position": position + number,
            "name": item.name,
            "source": item.source,
            "status": ItemStatus.QUEUED,
            "attempts": 0,
            "needs_review": False,
            "created_at": created_at,
        }
        for number, item in enumerate(items, start=1)
    ]
    added = 0
    for start in range(0, len(rows), INSERT_ROWS):
        chunk = rows[start : start + INSERT_ROWS]
        statement = (
            insert(Item)
            .values(chunk)
            .on_conflict_do_nothing(index_elements=[Item.job_id, Item.source])
            .returning(Item.id)
        )
        added += len(session.execute(statement).all())
    job.total += added
    job.queued += added
    session.flush()
    return added


def finish_expansion(
    session: Session, job_id: uuid.UUID, error: tuple[str, str] | None = None
) -> None:
    """Note that the source is listed to its end, or why it can't be (code, detail)."""
    job = lock_jobs(session, [job_id])[job_id]
    job.expanded_at = now(session)
    if error:
        job.error_code, job.error_detail = error
    settle_jobs(session, [job])


def load_job(session: Session, job_id: uuid.UUID) -> Job | None:
    """The job, whoever submitted it: for the service's own threads."""
    return session.get(Job, job_id)


def note_expansion(session: Session, job_id: uuid.UUID, *, cursor: str) -> None:
    """Note how far the source has been listed."""
    lock_jobs(session, [job_id])[job_id].expansion_cursor = cursor
    session.flush()
