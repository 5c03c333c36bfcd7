"""The newest failed images of all API keys, for operators."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.conditions import is_value
from shared.job_store.segments import is_of_segments
from shared.jobs import ItemStatus
from shared.models import ApiKey, Item, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed image, or a version of an image that failed."""

    item_id: uuid.UUID
    name: str
    job_id: uuid.UUID
    api_key_id: uuid.UUID
    api_key: str
    """The name of the key."""
    code: str | None
    detail: str | None
    failed_at: datetime


def last_failures(session: Session, *, limit: int) -> Sequence[Failure]:
    """The newest `limit` failures, newest first, less those of deleted jobs."""
    newest = session.scalars(
        sa.select(Item)
        .join(Job, Job.id == Item.job_id)
        .where(
            is_value(Item.status, ItemStatus.FAILED),
            Item.finished_at.is_not(None),
            ~is_of_segments(),  # their clip fails with them
        )
        .order_by(Item.finished_at.desc())
        .limit(limit)
    ).all()
    jobs = {
        row.Job.id: row
        for row in session.execute(
            sa.select(Job, ApiKey.name)
            .join(ApiKey, ApiKey.id == Job.api_key_id)
            .where(Job.id.in_({item.job_id for item in newest}), Job.deleted_at.is_(None))
        )
    }
    return [
        _failure(item, row.Job, row.name)
        for item in newest
        if (row := jobs.get(item.job_id)) is not None
    ]


def _failure(item: Item, job: Job, api_key: str) -> Failure:
    assert item.finished_at is not None
    return Failure(
        item_id=job.of_item_id or item.id,
        name=item.name,
        job_id=job.of_job_id or job.id,
        api_key_id=job.api_key_id,
        api_key=api_key,
        code=item.error_code,
        detail=item.error_detail,
        failed_at=item.finished_at,
    )
