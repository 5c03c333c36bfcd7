"""Watches: created, found, paused, deleted; and what a look at their prefix found.

A page of a look is one transaction: it records the objects that are seen, and the images of the new
ones. So each object becomes an image once, whatever is killed, and whoever else looks.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import (
    BadResultNameError,
    DestinationCollisionError,
    MattingError,
    QuotaExceededError,
    TooManyWatchesError,
    WatchTooLargeError,
)
from shared.job_store.intake import NewItem, add_items, create_job, finish_expansion
from shared.job_store.usage import images_left
from shared.jobs import ENDED
from shared.models import ApiKey, Job, Watch, WatchedObject

WATCH_KIND = "watch"
"""The kind of source of a watch's jobs, and the name of the watch's id in their metadata."""

LONGEST_WAIT_S = 3_600.0
"""A look that fails is repeated after twice the time, up to this; a longer interval stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenObject:
    """An object of a listing."""

    key: str
    etag: str
    item: NewItem | None
    """The image that it becomes if it is new; None: it becomes none."""
    left_out: bool = False
    """It can be no photo."""


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
    _close_job(session, watch)
    session.flush()


def resume_watch(session: Session, watch: Watch) -> None:
    """Look again at once, also after failures. What has come meanwhile is new."""
    watch.paused_at = None
    watch.next_look_at = now(session)
    watch.failures = 0
    session.flush()


def ask_for_look(session: Session, watch: Watch, *, pause_s: float) -> None:
    """Look soon, because objects have come: now, or `pause_s` after the last look. A look that is
    in progress may have passed them, so another one follows it. A watch that is paused or fails
    keeps its time.
    """
    moment = now(session)
    if watch.next_look_at is None or watch.failures:
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
    _close_job(session, watch)
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
    _forget(session, watch_id, keys)
    if len(keys) < limit:
        session.execute(sa.delete(Watch).where(Watch.id == watch_id))
    return len(keys) + 1


def due_watches(session: Session, *, limit: int) -> Sequence[Watch]:
    """The watches whose next page is due, longest waiting first; none of revoked keys."""
    statement = (
        sa.select(Watch)
        .join(ApiKey, ApiKey.id == Watch.api_key_id)
        .where(Watch.next_look_at <= now(session), ApiKey.revoked_at.is_(None))
        .order_by(Watch.next_look_at)
        .limit(limit)
    )
    return session.scalars(statement).all()


def add_watched_page(
    session: Session,
    read: Watch,
    objects: Sequence[SeenObject],
    *,
    is_last: bool,
    max_objects: int,
    failure_share: float | None = None,
    failure_after: int = 0,
    pause_s: float = 0.0,
) -> bool:
    """Record a page of a listing that began at the cursor of `read`, the watch as it was then;
    `is_last`: the listing ends with it. New and changed objects become images of the look's job.
    Returns False, and does nothing, if somebody else has recorded the page, or the watch was
    paused or deleted. `pause_s`: the time to the next look if one was asked for meanwhile.

    If the quota ends, what fits is taken, and the look goes on there later.
    """
    watch = session.scalar(
        sa.select(Watch)
        .where(Watch.id == read.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if watch is None or watch.next_look_at is None or _step(watch) != _step(read):
        return False
    after = watch.cursor
    known = {} if watch.ascending else _known(session, watch.id, after, objects, is_last=is_last)
    new = [one for one in objects if known.get(one.key) != one.etag]
    fitting, first_beyond = _what_fits(session, watch, new)
    if first_beyond is not None:
        objects = objects[: objects.index(first_beyond)]
        known = {key: etag for key, etag in known.items() if key < first_beyond.key}
    if not watch.ascending:
        _remember(session, watch.id, fitting)
        _forget(session, watch.id, known.keys() - {one.key for one in objects})
    items = [one.item for one in fitting if one.item is not None]
    if items:
        job = _open_job(session, watch, failure_share, failure_after)
        _add(session, job.id, items)
        watch.submitted += len(items)
    watch.left_out += sum(one.left_out for one in fitting)
    watch.listed += len(objects)
    watch.cursor = objects[-1].key if objects else after
    if first_beyond is not None:
        _wait_for_quota(session, watch)
        session.flush()
        return True
    watch.requests += 1
    watch.next_look_at = now(session)
    watch.error_code = watch.error_detail = None
    watch.failures = 0
    if is_last:
        _end_look(session, watch, pause_s)
    elif watch.listed > max_objects and not watch.ascending:
        _fail(
            session,
            watch,
            WatchTooLargeError(f"{watch.prefix} holds more than {max_objects:,} objects"),
        )
        watch.cursor, watch.listed, watch.requests = None, 0, 0
    session.flush()
    return True


def _add(session: Session, job_id: uuid.UUID, items: Sequence[NewItem]) -> None:
    """Add images. One whose result would have the key of another one's fails alone: nobody is there
    to be asked, and the others go on.
    """
    try:
        with session.begin_nested():
            add_items(session, job_id, items)
    except DestinationCollisionError as error:
        if len(items) == 1:
            add_items(session, job_id, [replace(items[0], error=BadResultNameError(error.detail))])
            return
        middle = len(items) // 2
        _add(session, job_id, items[:middle])
        _add(session, job_id, items[middle:])


def fail_look(session: Session, read: Watch, error: MattingError) -> None:
    """Record that a page could not be listed; the look goes on there after a while. Nothing happens
    if somebody else has recorded the page.
    """
    watch = session.scalar(
        sa.select(Watch)
        .where(Watch.id == read.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if watch is not None and watch.next_look_at is not None and _step(watch) == _step(read):
        _fail(session, watch, error)
        session.flush()


def _step(watch: Watch) -> tuple[str | None, int, datetime | None]:
    """It changes with each page that is recorded."""
    return watch.cursor, watch.requests, watch.last_look_at


def _known(
    session: Session,
    watch_id: uuid.UUID,
    after: str | None,
    objects: Sequence[SeenObject],
    *,
    is_last: bool,
) -> dict[str, str]:
    """Keys and ETags that were seen in the range of keys that a page covers."""
    statement = sa.select(WatchedObject.key, WatchedObject.etag).where(
        WatchedObject.watch_id == watch_id
    )
    if after is not None:
        statement = statement.where(WatchedObject.key > after)
    if not is_last:
        statement = statement.where(WatchedObject.key <= objects[-1].key)
    return {row.key: row.etag for row in session.execute(statement)}


def _what_fits(
    session: Session, watch: Watch, new: Sequence[SeenObject]
) -> tuple[Sequence[SeenObject], SeenObject | None]:
    """The new objects whose images fit into the quota, and the first one beyond it."""
    if all(one.item is None for one in new):
        return new, None
    left = images_left(session, watch.api_key_id)
    for index, one in enumerate(new):
        if one.item is not None and left is not None:
            if left == 0:
                return new[:index], one
            left -= 1
    return new, None


def _remember(session: Session, watch_id: uuid.UUID, objects: Sequence[SeenObject]) -> None:
    if not objects:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(WatchedObject).values(
        [{"watch_id": watch_id, "key": one.key, "etag": one.etag} for one in objects]
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[WatchedObject.watch_id, WatchedObject.key],
            set_={"etag": statement.excluded.etag},
        )
    )


FORGET_ROWS = 1_000


def _forget(session: Session, watch_id: uuid.UUID, keys: Iterable[str]) -> None:
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


def _job_in_progress(session: Session, watch: Watch) -> Job | None:
    """The job of the look in progress, unless it was cancelled or deleted."""
    job = session.get(Job, watch.job_id) if watch.job_id is not None else None
    if job is None or job.expanded_at is not None or job.deleted_at is not None:
        return None
    return None if job.status in ENDED else job


def _open_job(
    session: Session, watch: Watch, failure_share: float | None, failure_after: int
) -> Job:
    job = _job_in_progress(session, watch)
    if job is None:
        job = create_job(
            session,
            api_key_id=watch.api_key_id,
            options=watch.options,
            priority=watch.priority,
            labels={**watch.labels, WATCH_KIND: str(watch.id)},
            source={"kind": WATCH_KIND, "watch": str(watch.id), "prefix": watch.prefix},
            failure_share=failure_share,
            failure_after=failure_after,
            destination=watch.destination,
        )
        watch.job_id = job.id
    return job


def _close_job(session: Session, watch: Watch) -> None:
    """The job of the look in progress gets no more images."""
    job = _job_in_progress(session, watch)
    if job is not None:
        finish_expansion(session, job.id)


def _end_look(session: Session, watch: Watch, pause_s: float) -> None:
    moment = now(session)
    watch.last_look_at = moment
    wait_s = min(pause_s, watch.every_s) if watch.asked_again else watch.every_s
    watch.asked_again = False
    watch.next_look_at = moment + timedelta(seconds=wait_s)
    watch.objects, watch.listed = watch.listed, 0
    watch.look_requests, watch.requests = watch.requests, 0
    if not watch.ascending:
        watch.cursor = None
    _close_job(session, watch)


def _fail(session: Session, watch: Watch, error: MattingError) -> None:
    watch.error_code, watch.error_detail = error.code, error.detail
    watch.failures += 1
    wait_s = max(watch.every_s, min(watch.every_s * 2.0 ** min(watch.failures, 20), LONGEST_WAIT_S))
    watch.next_look_at = now(session) + timedelta(seconds=wait_s)
    _close_job(session, watch)


def _wait_for_quota(session: Session, watch: Watch) -> None:
    """Go on with the next month, and look before then whether the quota has become higher."""
    moment = now(session)
    error = QuotaExceededError(
        "The key has no images left this month; the watch continues next month"
    )
    watch.error_code, watch.error_detail = error.code, error.detail
    month_end = (moment.replace(day=1) + timedelta(days=32)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    watch.next_look_at = min(month_end, moment + timedelta(seconds=LONGEST_WAIT_S))
    _close_job(session, watch)
