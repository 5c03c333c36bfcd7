"""How a job and its items come in."""

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import MattingError
from shared.job_store.locks import finish_settled_jobs, lock_jobs
from shared.job_store.usage import take_from_quota
from shared.jobs import ItemStatus
from shared.models import Item, Job, new_id

INSERT_ROWS = 1_000
"""Rows of one INSERT: below SQLite's 32,766 bound values, large enough that round trips vanish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An image to be matted."""

    name: str
    """The path that the caller knows it by."""
    source: str
    """`s3://bucket/key` or a URL; the same one twice in a job is one item."""
    custom_id: str | None = None
    options: dict[str, Any] | None = None
    """The image's own, whole; none: the job's."""
    labels: dict[str, Any] | None = None
    """The manifest's other columns."""
    error: MattingError | None = None
    """Why it can't even be tried: the item fails at once."""


def create_job(
    session: Session,
    *,
    api_key_id: uuid.UUID,
    options: dict[str, Any],
    priority: int,
    labels: dict[str, Any],
    source: dict[str, Any],
    failure_share: float | None = None,
    failure_after: int = 0,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Add a job with no items yet. It is paused when more than `failure_share` of its images
    failed, once `failure_after` are settled.
    """
    job = Job(
        id=job_id or new_id(),
        api_key_id=api_key_id,
        options=options,
        priority=priority,
        labels=labels,
        source=source,
        failure_share=failure_share,
        failure_after=failure_after,
        created_at=now(session),
    )
    session.add(job)
    session.flush()
    return job


def add_items(session: Session, job_id: uuid.UUID, items: Iterable[NewItem]) -> int:
    """Add items behind those the job has, count them, and return how many were new.

    Raises QuotaExceededError.
    """
    job = lock_jobs(session, [job_id])[job_id]
    position = (
        session.scalar(sa.select(sa.func.max(Item.position)).where(Item.job_id == job_id)) or 0
    )
    moment = now(session)
    rows = [_row(job_id, position + number, item, moment) for number, item in enumerate(items, 1)]
    added = Counter(_insert_new(session, rows) if rows else ())
    take_from_quota(session, job.api_key_id, added[ItemStatus.QUEUED])
    job.total += added.total()
    job.queued += added[ItemStatus.QUEUED]
    job.failed += added[ItemStatus.FAILED]
    session.flush()
    return added.total()


def _row(job_id: uuid.UUID, position: int, item: NewItem, moment: datetime) -> dict[str, Any]:
    error = item.error
    return {
        "id": new_id(),
        "job_id": job_id,
        "position": position,
        "name": item.name,
        "source": item.source,
        "custom_id": item.custom_id,
        "options": item.options,
        "labels": item.labels,
        "status": ItemStatus.FAILED if error else ItemStatus.QUEUED,
        "error_code": error.code if error else None,
        "error_detail": error.message if error else None,
        "attempts": 0,
        "needs_review": False,
        "reused": False,
        "created_at": moment,
        "finished_at": moment if error else None,
    }


def _insert_new(session: Session, rows: Sequence[dict[str, Any]]) -> Sequence[ItemStatus]:
    """Insert the rows whose source the job does not have; the status of each that is new."""
    if session.get_bind().dialect.name != "postgresql":
        statement = (
            sqlite.insert(Item)
            .on_conflict_do_nothing(index_elements=[Item.job_id, Item.source])
            .returning(Item.status)
            .execution_options(insertmanyvalues_page_size=INSERT_ROWS)
        )
        return session.scalars(statement, rows).all()
    # A column an array: a statement with a parameter for every value of every row takes the driver
    # three times as long to prepare as the server to carry out.
    table: Any = Item.__table__
    names = list(rows[0])
    arrays = [
        sa.bindparam(
            name,
            [_as_text(row[name]) if name in _JSON else row[name] for row in rows],
            type_=postgresql.ARRAY(sa.Text() if name in _JSON else table.c[name].type),
        )
        for name in names
    ]
    given = sa.func.unnest(*arrays).table_valued(*names).render_derived()
    columns = [
        sa.cast(given.c[name], postgresql.JSONB) if name in _JSON else given.c[name]
        for name in names
    ]
    return session.scalars(
        postgresql.insert(Item)
        .from_select(names, sa.select(*columns))
        .on_conflict_do_nothing(index_elements=[Item.job_id, Item.source])
        .returning(Item.status)
    ).all()


_JSON = frozenset({"options", "labels"})


def _as_text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def finish_expansion(
    session: Session, job_id: uuid.UUID, error: tuple[str, str] | None = None
) -> None:
    """Note that the source is listed to its end, or why it can't be (code, detail)."""
    job = lock_jobs(session, [job_id])[job_id]
    job.expanded_at = now(session)
    if error:
        job.error_code, job.error_detail = error
    finish_settled_jobs(session, [job])


def load_job(session: Session, job_id: uuid.UUID) -> Job | None:
    """The job, whoever submitted it: for the service's own threads."""
    return session.get(Job, job_id)


def add_page(session: Session, job_id: uuid.UUID, items: Iterable[NewItem], *, cursor: str) -> bool:
    """Add a page of a job's source and note how far it has been listed with it; False when it was
    listed to its end meanwhile, by another process, or cancelled.

    Raises QuotaExceededError.
    """
    job = lock_jobs(session, [job_id]).get(job_id)
    if job is None or job.expanded_at is not None:
        return False
    add_items(session, job_id, items)
    job.expansion_cursor = cursor
    session.flush()
    return True
