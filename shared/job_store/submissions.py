"""Idempotency keys: a submission with the same key is carried out only once."""

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
    """Record the job of an idempotency key. Returns False if the key has another job (it waits for
    one that is being committed), unless that job was deleted. Call it in the transaction that
    creates the job.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = {"sha256": sha256, "job_id": job_id, "created_at": now(session)}
    deleted = (
        sa.select(Job.id)
        .where(Job.id == IdempotencyKey.job_id, Job.deleted_at.is_not(None))
        .correlate(IdempotencyKey)
    )
    statement = (
        insert(IdempotencyKey)
        .values(api_key_id=api_key_id, key=key, **values)
        .on_conflict_do_update(
            index_elements=[IdempotencyKey.api_key_id, IdempotencyKey.key],
            set_=values,
            where=deleted.exists(),
        )
        .returning(IdempotencyKey.job_id)
    )
    return session.scalar(statement) is not None


def find_submission(
    session: Session, *, api_key_id: uuid.UUID, key: str, sha256: str
) -> Job | None:
    """The job of an idempotency key, unless it was deleted. Raises IdempotencyKeyReusedError if the
    submission was a different one.
    """
    row = session.get(IdempotencyKey, (api_key_id, key))
    job = None if row is None else session.get(Job, row.job_id)
    if row is None or job is None or job.deleted_at is not None:
        return None
    if row.sha256 != sha256:
        raise IdempotencyKeyReusedError
    return job


def forget_submissions(session: Session, *, older_than_s: float, limit: int) -> int:
    """Delete up to `limit` idempotency keys of that age; returns how many."""
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
