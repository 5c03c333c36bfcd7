"""Which items must be published to the queue, and which have been."""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.database import now
from shared.job_store.conditions import is_among, is_postgresql, is_value
from shared.job_store.groups import FRAME
from shared.job_store.locks import locked_items
from shared.job_store.photos_by_url import is_slow
from shared.job_store.segments import clips_under_way, is_clip_to_cut, is_of_segments
from shared.jobs import EXPRESS_IMAGES, ItemKind, ItemStatus
from shared.messages import Message
from shared.models import Item, Job

MOST_CLIPS = 4
"""Clips of a job whose segments are matted at a time, so that the first ones end soon and few
mattes lie in the storage."""

MOST_PASSED_OVER = 4_096
"""Items of a job that are looked at behind clips and photos by URL which have to wait."""


def jobs_to_publish(session: Session, ahead: Mapping[uuid.UUID, int]) -> list[uuid.UUID]:
    """The jobs that have fewer messages out than `ahead` allows for each, and an image that is due.
    One statement filters all jobs, because most have neither.
    """
    if not ahead:
        return []
    due = sa.or_(_is_any(_fresh(Job.id)), _is_any(_due_again(Job.id, now(session))))
    out = Job.running + _on_queue(Job.id, max(ahead.values()))
    statement = sa.select(Job.id, out.label("out")).where(Job.id.in_(ahead), due).order_by(Job.id)
    return [row.id for row in session.execute(statement) if row.out < ahead[row.id]]


def publishable(
    session: Session,
    job_id: uuid.UUID,
    *,
    ahead: int,
    express: int = EXPRESS_IMAGES,
    urls: int | None = None,
) -> list[Message]:
    """The messages of a job's due items that are not published, so many that at most `ahead` are on
    the queue or with workers. Of its first images only the first `express`, and at most `urls`
    photos by URL (None: any number). Items due for another attempt come first.
    """
    model = Job.options["model"].as_string().label("model")
    out = (Job.running + _on_queue(Job.id, ahead)).label("out")
    has_destination = Job.destination.is_not(None).label("has_destination")
    framed = Job.source[(FRAME, "width")].as_integer().is_not(None).label("framed")
    of_clip = is_of_segments().label("of_clip")
    facts = sa.select(Job.priority, Job.of_job_id, model, has_destination, framed, of_clip, out)
    facts = facts.where(Job.id == job_id)
    job = session.execute(facts).one_or_none()
    room = 0 if job is None else ahead - job.out
    if job is None or room <= 0:
        return []
    may_go = sa.or_(
        Item.position <= _position_of(session, job_id, express), Item.position > EXPRESS_IMAGES
    )
    again = _due_again(job_id, now(session)).where(may_go).order_by(Item.not_before)
    rows = list(session.execute(again.limit(room)))
    seen = 0
    if len(rows) < room:
        fresh = _fresh(job_id).where(may_go).order_by(Item.position).limit(room - len(rows))
        first = session.execute(fresh).all()
        rows += first
        seen = first[-1].position if first else 0
    if urls is not None:
        rows = _with_few_slow(session, job_id, rows, room, urls, may_go, behind=seen)
    return [
        Message(
            item_id=row.id,
            job_id=job_id,
            name=row.name,
            priority=job.priority,
            express=row.position <= EXPRESS_IMAGES,
            model=row.forwarded_to or (row.model if row.has_options else job.model),
            by_url=row.by_url,
            makes_version=job.of_job_id is not None and not job.of_clip,
            of_clip=row.kind is ItemKind.CLIP,
            has_destination=job.has_destination,
            in_passes=row.in_group or row.kind is not ItemKind.PHOTO or job.framed,
            attempts=row.attempts,
        )
        for row in rows
    ]


def _with_few_slow(
    session: Session,
    job_id: uuid.UUID,
    rows: Sequence["sa.Row[Any]"],
    room: int,
    urls: int,
    may_go: sa.ColumnElement[bool],
    *,
    behind: int,
) -> list["sa.Row[Any]"]:
    """At most `urls` slow ones of these items, and photos instead of the others, for which they
    need not wait: those behind the position `behind`, up to which `rows` holds all fresh items.
    """
    clips = MOST_CLIPS - clips_under_way(session, job_id)
    kept: list[sa.Row[Any]] = []

    def keep(row: "sa.Row[Any]") -> None:
        nonlocal urls, clips
        begins = row.kind is ItemKind.CLIP and bool(row.to_cut)
        if row.by_url and (urls <= 0 or (begins and clips <= 0)):
            return
        kept.append(row)
        urls -= row.by_url
        clips -= begins

    for row in rows:
        keep(row)
    if len(kept) < len(rows):
        some = _fresh(job_id).where(may_go, Item.position > behind).order_by(Item.position)
        near = some.limit(MOST_PASSED_OVER).subquery()
        photos = sa.select(*near.c).where(near.c.kind == ItemKind.PHOTO)
        if urls <= 0:
            photos = photos.where(~near.c.by_url)
        for row in session.execute(photos.order_by(near.c.position).limit(room - len(kept))):
            keep(row)
    return kept


def _position_of(session: Session, job_id: uuid.UUID, image: int) -> int:
    """The position of a job's first, second … image; 0 is before the first. Positions have gaps
    where a source came twice.
    """
    if image in (0, EXPRESS_IMAGES):
        return image
    every = sa.select(Item.position).where(Item.job_id == job_id).order_by(Item.position)
    return session.scalar(every.offset(image - 1).limit(1)) or EXPRESS_IMAGES


JobId = uuid.UUID | InstrumentedAttribute[uuid.UUID]

HAS_OPTIONS = Item.options["profile"].as_string().is_not(None)
"""Whether an item has options of its own, which are complete: if they name no model, its row of the
list has asked for the default one. (Without them the column may hold NULL or the JSON text `null`.)
"""

_ITEM = (
    Item.id,
    Item.name,
    Item.position,
    Item.attempts,
    Item.options["model"].as_string().label("model"),
    HAS_OPTIONS.label("has_options"),
    Item.forwarded_to,
    is_slow().label("by_url"),
    Item.group_name.is_not(None).label("in_group"),
    Item.kind,
    is_clip_to_cut().label("to_cut"),
)


def _on_queue(job_id: JobId, most: int) -> sa.ScalarSelect[int]:
    """The number of a job's messages that no worker has claimed, at most `most`."""
    some = sa.select(Item.job_id).where(
        Item.job_id == job_id,
        is_value(Item.status, ItemStatus.QUEUED),
        Item.published_at.is_not(None),
    )
    counted = some.correlate_except(Item).limit(most).subquery()
    return sa.select(sa.func.count()).select_from(counted).scalar_subquery()


def _fresh(job_id: JobId) -> sa.Select[Any]:
    """A job's items that are not published and wait for nothing."""
    return _unpublished(job_id, Item.not_before.is_(None))


def _due_again(job_id: JobId, moment: datetime) -> sa.Select[Any]:
    """A job's items whose wait before the next attempt is over."""
    return _unpublished(job_id, Item.not_before <= moment)


def _is_any(items: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """Whether any row matches, by one index lookup. EXISTS within an OR may hash the items of all
    jobs.
    """
    return items.with_only_columns(Item.id).limit(1).scalar_subquery().is_not(None)


def _unpublished(job_id: JobId, *which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(*_ITEM)
        .where(
            Item.job_id == job_id,
            is_value(Item.status, ItemStatus.QUEUED),
            Item.published_at.is_(None),
            *which,
        )
        .correlate_except(Item)
    )


def mark_published_many(session: Session, sent: Sequence[Message]) -> None:
    """Record that these items have been published. An item that was claimed in the meantime and
    waits again is left out: its message is used up, and it would wait forever.
    """
    _set_published(session, {one.item_id: one.attempts for one in sent}, now(session))


def _set_published(
    session: Session, attempts: Mapping[uuid.UUID, int], moment: datetime | None
) -> int:
    """Set `published_at` of waiting items with the given number of attempts; returns how many."""
    if not attempts:
        return 0
    same: defaultdict[int, list[uuid.UUID]] = defaultdict(list)
    for item_id, number in attempts.items():
        same[number].append(item_id)
    postgres = is_postgresql(session)
    unclaimed_items = sa.or_(
        *(
            sa.and_(is_among(Item.id, f"ids_{number}", postgres=postgres), Item.attempts == number)
            for number in same
        )
    )
    changed = session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(unclaimed_items, Item.status == ItemStatus.QUEUED)))
        .values(published_at=moment)
        .execution_options(synchronize_session=False),
        {f"ids_{number}": ids for number, ids in same.items()},
    )
    assert isinstance(changed, sa.CursorResult)  # as of every UPDATE
    return changed.rowcount


@dataclass(frozen=True, slots=True)
class Sent:
    """An item whose message was sent and never claimed."""

    item_id: uuid.UUID
    published_at: datetime
    attempts: int
    """Attempts before."""
    model: str | None
    """The model of the queue that it was sent to."""
    by_url: bool
    """Whether the photo comes from a URL; such images have queues of their own."""


def unclaimed(
    session: Session, *, older_than_s: float, limit: int, after: Sent | None = None
) -> list[Sent]:
    """Items published at least `older_than_s` ago and never claimed, oldest first; the next page
    after the item `after`.
    """
    own, of_job = Item.options["model"].as_string(), Job.options["model"].as_string()
    asked_for = sa.case((HAS_OPTIONS, own), else_=of_job)
    model = sa.func.coalesce(Item.forwarded_to, asked_for).label("model")
    statement = (
        sa.select(
            Item.id,
            Item.published_at,
            Item.attempts,
            model,
            is_slow().label("by_url"),
        )
        .join(Job, Job.id == Item.job_id)
        .where(
            is_value(Item.status, ItemStatus.QUEUED),
            Item.published_at < now(session) - timedelta(seconds=older_than_s),
        )
        .order_by(Item.published_at, Item.id)
        .limit(limit)
    )
    if after is not None:
        same_moment = sa.and_(Item.published_at == after.published_at, Item.id > after.item_id)
        statement = statement.where(
            Item.published_at >= after.published_at,  # the index begins here
            sa.or_(Item.published_at > after.published_at, same_moment),
        )
    return [
        Sent(row.id, row.published_at, row.attempts, row.model, row.by_url)
        for row in session.execute(statement)
    ]


def forget_publications(session: Session, lost: Sequence[Sent]) -> int:
    """Let these items be published again, except those claimed in the meantime; returns
    how many.
    """
    return _set_published(session, {one.item_id: one.attempts for one in lost}, None)
