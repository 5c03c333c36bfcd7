"""The monthly usage of API keys, and their quotas."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import QuotaExceededError
from shared.job_store.api_keys import lock_api_key
from shared.job_store.conditions import is_postgresql, is_unended
from shared.job_store.segments import is_of_segments
from shared.jobs import PendingChange
from shared.models import ApiKey, Job, Usage
from shared.plurals import counted


@dataclass(slots=True)
class UsageAmount:
    """Sums over succeeded images."""

    images: int = 0
    pixels: int = 0
    device_ms: float = 0.0
    """Also of segments whose clip was cancelled or failed."""
    clip_seconds: float = 0.0
    megapixel_frames: float = 0.0


def month_of(moment: datetime) -> str:
    """The calendar month, `2026-11`."""
    return f"{moment:%Y-%m}"


def add_usage(session: Session, used: Mapping[uuid.UUID, UsageAmount], moment: datetime) -> None:
    """Add to the sums of the month. These rows are the last that a transaction locks, in the order
    of their keys.
    """
    if used:
        session.connection().execute(
            _addition(postgres=is_postgresql(session)),
            [
                {"api_key_id": api_key_id, "month": month_of(moment), **asdict(more)}
                for api_key_id, more in sorted(used.items())
            ],
        )


@cache
def _addition(*, postgres: bool) -> sa.Insert:
    """Built once: that takes as long as a round trip."""
    return and_add((postgresql.insert if postgres else sqlite.insert)(Usage))


def and_add(statement: postgresql.Insert | sqlite.Insert) -> sa.Insert:
    """Let an INSERT into the usage add to the rows that exist."""
    return statement.on_conflict_do_update(
        index_elements=[Usage.api_key_id, Usage.month],
        set_={
            each.name: getattr(Usage, each.name) + statement.excluded[each.name]
            for each in fields(UsageAmount)
        },
    )


def usage_of(session: Session, api_key_ids: Sequence[uuid.UUID]) -> Sequence[Usage]:
    """Every month of these keys, newest first."""
    statement = sa.select(Usage).where(Usage.api_key_id.in_(api_key_ids))
    return session.scalars(statement.order_by(Usage.month.desc(), Usage.api_key_id)).all()


def images_left(session: Session, api_key_id: uuid.UUID) -> int | None:
    """The rest of a key's monthly quota, less its images in progress; None: no quota. For showing:
    another submission may use it at the same time.
    """
    quota = sa.select(ApiKey.images_per_month).where(ApiKey.id == api_key_id)
    if session.scalar(quota) is None:
        return None
    done = (
        sa.select(Usage.images)
        .where(Usage.api_key_id == ApiKey.id, Usage.month == month_of(now(session)))
        .scalar_subquery()
    )
    # Failed images of a retry join those that wait page by page.
    # Segments belong to a clip that is counted.
    retried = sa.case((Job.pending_change == PendingChange.RETRY, Job.failed), else_=0)
    waiting = Job.queued + Job.running - Job.turntables_left
    under_way = (
        sa.select(sa.func.sum(waiting + retried))
        .where(Job.api_key_id == ApiKey.id, is_unended(), ~is_of_segments())
        .scalar_subquery()
    )
    # One statement: with two, a batch that is recorded in between would be in neither sum.
    left = sa.select(
        ApiKey.images_per_month - sa.func.coalesce(done, 0) - sa.func.coalesce(under_way, 0)
    ).where(ApiKey.id == api_key_id)
    rest = session.scalar(left)
    return None if rest is None else max(0, int(rest))


def images_to_take(session: Session, api_key_id: uuid.UUID) -> int | None:
    """What `images_left` says, and nobody else takes any of it until this transaction ends: it
    locks a key that has a quota. Lock the jobs first.
    """
    quota = sa.select(ApiKey.images_per_month).where(ApiKey.id == api_key_id)
    if session.scalar(quota) is None:
        return None
    lock_api_key(session, api_key_id)
    return images_left(session, api_key_id)


def take_from_quota(session: Session, api_key_id: uuid.UUID, images: int) -> None:
    """Raise QuotaExceededError unless the key's quota allows `images` more this month. Call it
    before the images are counted, and after the jobs are locked.
    """
    left = images_to_take(session, api_key_id)
    if left is not None and images > left:
        raise QuotaExceededError(
            f"The key has {counted(left, 'image')} left this month; this needs {images:,}"
        )
