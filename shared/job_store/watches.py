"""Watches: created, found, paused, asked to look, deleted."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import (
    TooManyWatchesError,
)
from shared.job_store.api_keys import lock_api_key
from shared.job_store.intake import finish_expansion
from shared.job_store.locks import lock_jobs
from shared.models import Job, Watch, WatchedObject

WATCH_KIND = "watch"
"""The kind of source of a watch's jobs, and the name of the watch's id in their metadata."""


def create_watch(
    session: Session,
    *,
    api_key_id: uuid.UUID,
    prefix: str,
    options: dict[str, Any],
    priority: int,
    labels: dict[str, Any],
    every_s: int,
    existing: bool,
    ascending: bool,
    limit: int,
    destination: str | None = None,
) -> Watch:
    """Create a watch that looks at once. Raises TooManyWatchesError if the key has `limit`."""
    lock_api_key(session, api_key_id)
    if len(list_watches(session, api_key_id=api_key_id)) >= limit:
        raise TooManyWatchesError(f"The key already has {limit} watches, the maximum")
    moment = now(session)
    watch = Watch(
        api_key_id=api_key_id,
        prefix=prefix,
        options=options,
        destination=destination,
        priority=priority,
        labels=labels,
        every_s=every_s,
        existing=existing,
        ascending=ascending,
        created_at=moment,
        next_look_at=moment,
    )
    session.add(watch)
    session.flush()
    return watch


def list_watches(session: Session, *, api_key_id: uuid.UUID) -> Sequence[Watch]:
    """The key's watches, oldest first."""
    statement = sa.select(Watch).where(Watch.api_key_id == api_key_id, Watch.deleted_at.is_(None))
    return session.scalars(statement.order_by(Watch.id)).all()


def get_watch(
    session: Session, watch_id: uuid.UUID, *, api_key_id: uuid.UUID, to_change: bool
) -> Watch | None:
    """The watch, if it is this key's; locked if it is `to_change`."""
    statement = sa.select(Watch).where(
        Watch.id == watch_id, Watch.api_key_id == api_key_id, Watch.deleted_at.is_(None)
    )
    return session.scalar(statement.with_for_update(key_share=True) if to_change else statement)


def pause_watch(session: Session, watch: Watch) -> None:
    """Stop looking. What its jobs hold is processed."""
    watch.paused_at = watch.paused_at or now(session)
    watch.next_look_at = None
    close_job(session, watch)
    session.flush()


def resume_watch(session: Session, watch: Watch) -> None:
    """Look again at once, also after failures. What has come meanwhile is new."""
    watch.paused_at = None
    watch.next_look_at = now(session)
    watch.failures = 0
    session.flush()


def ask_for_look(session: Session, watch: Watch, *, pause_s: float) -> None:
    """Look soon, because objects have come: now, or `pause_s` after the last look. A look that is
    in progress may have passed them, so another one follows it. A watch that is paused, fails
    or has no quota left keeps its time.
    """
    moment = now(session)
    if watch.next_look_at is None or watch.error_code is not None:
        return
    if watch.next_look_at <= moment:
        watch.asked_again = True
    else:
        earliest = watch.last_look_at or moment
        watch.next_look_at = min(
            watch.next_look_at, max(moment, earliest + timedelta(seconds=pause_s))
        )
    session.flush()


def delete_watch(session: Session, watch: Watch) -> None:
    """Hide a watch from its caller; `remove_deleted_watches` removes what it has seen. Its jobs
    stay.
    """
    watch.deleted_at = now(session)
    watch.next_look_at = None
    close_job(session, watch)
    session.flush()


def remove_deleted_watches(session: Session, *, limit: int) -> int:
    """Remove up to `limit` objects of a deleted watch, or after the last one the watch itself.
    Returns 0 if there is no deleted watch.
    """
    deleted = sa.select(Watch.id).where(Watch.deleted_at.is_not(None)).order_by(Watch.id).limit(1)
    watch_id = session.scalar(deleted)
    if watch_id is None:
        return 0
    seen = sa.select(WatchedObject.key).where(WatchedObject.watch_id == watch_id)
    keys = session.scalars(seen.order_by(WatchedObject.key).limit(limit)).all()
    forget_objects(session, watch_id, keys)
    if len(keys) < limit:
        session.execute(sa.delete(Watch).where(Watch.id == watch_id))
    return len(keys) + 1


FORGET_ROWS = 1_000


def forget_objects(session: Session, watch_id: uuid.UUID, keys: Iterable[str]) -> None:
    """Objects that are gone: if they come back, they are new."""
    gone = sorted(keys)
    for start in range(0, len(gone), FORGET_ROWS):
        session.execute(
            sa.delete(WatchedObject)
            .where(
                WatchedObject.watch_id == watch_id,
                WatchedObject.key.in_(gone[start : start + FORGET_ROWS]),
            )
            .execution_options(synchronize_session=False)
        )


def job_in_progress(session: Session, watch: Watch) -> Job | None:
    """The job of the look in progress, locked, unless it was cancelled or deleted: then its listing
    has ended. The caller has locked the watch.
    """
    if watch.job_id is None:
        return None
    job = lock_jobs(session, [watch.job_id]).get(watch.job_id)
    return None if job is None or job.expanded_at is not None else job


def close_job(session: Session, watch: Watch) -> None:
    """The job of the look in progress gets no more images."""
    job = job_in_progress(session, watch)
    if job is not None:
        finish_expansion(session, job.id)
