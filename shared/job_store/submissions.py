"""Submissions known by their `Idempotency-Key`: made once, however often they are sent."""

import uuid
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import IdempotencyKeyReusedError
from shared.models import IdempotencyKey, Job


def remember_submission(
    session: Session, job_id: uuid.UUID, *, api_key_id: uuid.UUID, key: str, sha256: str
) -> bool:
    """Note that this job is what was submitted under the key; False when another already is (one
    that is being committed is waited for). To be called in the transaction that makes the job.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = (
        insert(IdempotencyKey)
        .values(
            api_key_id=api_key_id, key=key, sha256=sha256, job_id=job_id, created_at=now(session)
        )
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.job_id)
    )
    return session.scalar(statement) is not None


def find_submission(
    session: Session, *, api_key_id: uuid.UUID, key: str, sha256: str
) -> Job | None:
    """The job that was submitted under this key. Raises IdempotencyKeyReusedError when that was
    another submission.
    """
    row = session.get(IdempotencyKey, (api_key_id, key))
    if row is None:
        return None
    if row.sha256 != sha256:
        raise IdempotencyKeyReusedError
    return session.get(Job, row.job_id)


def forget_submissions(session: Session, *, older_than_s: float, limit: int) -> int:
    """Let keys be used again after this long, up to `limit` at a time; returns how many."""
    keys = (IdempotencyKey.api_key_id, IdempotencyKey.key)
    old = sa.select(*keys).where(
        IdempotencyKey.created_at < now(session) - timedelta(seconds=older_than_s)
    )
    rows = session.execute(old.order_by(IdempotencyKey.created_at).limit(limit)).all()
    for api_key_id in {row.api_key_id for row in rows}:
        mine = [row.key for row in rows if row.api_key_id == api_key_id]
        session.execute(
            sa.delete(IdempotencyKey)
            .where(IdempotencyKey.api_key_id == api_key_id, IdempotencyKey.key.in_(mine))
            .execution_options(synchronize_session=False)
        )
    return len(rows)
