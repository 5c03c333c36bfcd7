"""What a look at a watch's prefix found.

A page of a look is one transaction: it records the objects that are seen, and the images of the new
ones. So each object becomes an image once, whatever is killed, and whoever else looks.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import (
    BadResultNameError,
    DestinationCollisionError,
    MattingError,
    QuotaExceededError,
    WatchTooLargeError,
)
from shared.job_store.intake import NewItem, add_items, create_job
from shared.job_store.usage import images_to_take
from shared.job_store.watches import WATCH_KIND, close_job, forget_objects, job_in_progress
from shared.models import ApiKey, Job, Watch, WatchedObject

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
    last_key: str | None,
    is_last: bool,
    max_objects: int,
    failure_share: float | None = None,
    failure_after: int = 0,
    pause_s: float = 0.0,
) -> bool:
    """Record a page of a listing that began at the cursor of `read`, the watch as it was then;
    `last_key`: the last key of the page, which may be none of `objects`; None: the page is empty.
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
    job = job_in_progress(session, watch)  # jobs are locked before keys
    after = watch.cursor
    end = None if is_last else last_key
    known = {} if watch.ascending else _known(session, watch.id, after, end)
    new = [one for one in objects if known.get(one.key) != one.etag]
    fitting, first_beyond = _what_fits(session, watch, new)
    if first_beyond is not None:
        objects = objects[: objects.index(first_beyond)]
        known = {key: etag for key, etag in known.items() if key < first_beyond.key}
    if not watch.ascending:
        _remember(session, watch.id, fitting)
        forget_objects(session, watch.id, known.keys() - {one.key for one in objects})
    items = [one.item for one in fitting if one.item is not None]
    if items:
        job = job or _open_job(session, watch, failure_share, failure_after)
        _add(session, job.id, items)
        watch.submitted += len(items)
    watch.left_out += sum(one.left_out for one in fitting)
    watch.listed += len(objects)
    if first_beyond is not None:
        last_key = objects[-1].key if objects else None
    watch.cursor = last_key or after
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
    end: str | None,
) -> dict[str, str]:
    """Keys and ETags that were seen behind the key `after`, up to the key `end`."""
    statement = sa.select(WatchedObject.key, WatchedObject.etag).where(
        WatchedObject.watch_id == watch_id
    )
    if after is not None:
        statement = statement.where(WatchedObject.key > after)
    if end is not None:
        statement = statement.where(WatchedObject.key <= end)
    return {row.key: row.etag for row in session.execute(statement)}


def _what_fits(
    session: Session, watch: Watch, new: Sequence[SeenObject]
) -> tuple[Sequence[SeenObject], SeenObject | None]:
    """The new objects whose images fit into the quota, and the first one beyond it."""
    if all(one.item is None for one in new):
        return new, None
    left = images_to_take(session, watch.api_key_id)
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


def _open_job(
    session: Session, watch: Watch, failure_share: float | None, failure_after: int
) -> Job:
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
    close_job(session, watch)


def _fail(session: Session, watch: Watch, error: MattingError) -> None:
    watch.error_code, watch.error_detail = error.code, error.detail
    watch.failures += 1
    wait_s = max(watch.every_s, min(watch.every_s * 2.0 ** min(watch.failures, 20), LONGEST_WAIT_S))
    watch.next_look_at = now(session) + timedelta(seconds=wait_s)
    close_job(session, watch)


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
    close_job(session, watch)
