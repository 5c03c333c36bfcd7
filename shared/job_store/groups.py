"""Groups of photos: listed, let go on when all of them are measured, and remade after a retry.

A photo of a group goes through the queue twice. After the first pass it is queued again, with NEVER
as the time from which it is due. The transaction that records the last photo's first pass, or its
end, computes the common frame and makes the others due. All changes of a group happen while its
job's row is locked, so of two workers that record its last two photos the later one sees both.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.clips import ClipSegment, ClipState, ClipWork
from shared.database import now
from shared.errors import GroupTooLargeError, MattingError
from shared.groups import (
    MAX_GROUP_PHOTOS,
    NEVER,
    GroupFrame,
    GroupWork,
    Measured,
    TurntableWork,
    common_frame,
)
from shared.job_store.conditions import in_groups, in_turn_of_keys
from shared.job_store.failed_images import note_failed
from shared.job_store.locks import finish_settled_jobs, lock_jobs, locked_items
from shared.job_store.segments import holds_segments
from shared.job_store.turntables import TURNTABLE, add_turntable, turntable_work
from shared.jobs import ENDED, ItemKind, ItemStatus
from shared.models import Item, ItemGroup, Job, place_of
from shared.options import GroupBy
from shared.telemetry import get_logger

if TYPE_CHECKING:
    from shared.job_store.intake import NewItem

log = get_logger(__name__)

OPEN_ITEM = (ItemStatus.QUEUED, ItemStatus.RUNNING)

GROUPS_AT_ONCE = 16
"""Groups of a page; their photos are counted, and those of a complete group read."""


FRAME = "frame"
GROUP = "group"
"""Where the `source` of a job that makes a version keeps the frame, or the group of a turntable."""


def with_groups(session: Session, job: Job, items: Iterable["NewItem"]) -> list["NewItem"]:
    """Items with the group that the job's options give them. Photos beyond the limit of a group
    fail.
    """
    by_folder = job.options.get("group_by") == GroupBy.FOLDER
    grouped = [replace(item, group=_group_of(item, by_folder=by_folder)) for item in items]
    names = {item.group for item in grouped if item.group is not None}
    if not names:
        return grouped
    statement = sa.select(ItemGroup.name, ItemGroup.members).where(
        ItemGroup.job_id == job.id, ItemGroup.name.in_(names)
    )
    members = Counter({row.name: row.members for row in session.execute(statement)})
    checked: list[NewItem] = []
    for item in grouped:
        if item.group is not None and item.error is None:
            members[item.group] += 1
            if members[item.group] > MAX_GROUP_PHOTOS:
                error = GroupTooLargeError(
                    f"{item.group[:80]!r} has more than {MAX_GROUP_PHOTOS:,} photos"
                )
                item = replace(item, error=error, group=None)
        checked.append(item)
    return checked


def _group_of(item: "NewItem", *, by_folder: bool) -> str | None:
    """The group of an item; clips are in none."""
    if item.is_clip:
        return None
    if item.group is not None or not by_folder:
        return item.group
    folder = str(PurePosixPath(item.name).parent)
    return None if folder == "." else folder


def note_members(session: Session, job_id: uuid.UUID, rows: Iterable[Mapping[str, Any]]) -> None:
    """Count the new photos of each group. The caller has locked the job."""
    members = Counter(row["group_name"] for row in rows if row["group_name"] is not None)
    if not members:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(ItemGroup)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[ItemGroup.job_id, ItemGroup.name],
            set_={"members": ItemGroup.members + statement.excluded.members},
        ),
        [
            {"job_id": job_id, "name": name, "members": count, FRAME: None}
            for name, count in sorted(members.items())
        ],
    )


def begin_grouping(session: Session, job: Job) -> None:
    """Let all groups of a locked job be looked at in the background. No-op for a job without."""
    some = sa.select(ItemGroup.name).where(ItemGroup.job_id == job.id).limit(1)
    if session.scalar(some) is not None:
        job.grouping_after = ""


def grouping_jobs(
    session: Session, *, limit: int, but_for: Collection[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """Jobs whose groups are to be looked at, the oldest of each key first, `but_for` these."""
    grouping = Job.grouping_after.is_not(None), Job.id.not_in(but_for)
    return list(session.scalars(in_turn_of_keys(*grouping, limit=limit)))


def continue_grouping(session: Session, job_id: uuid.UUID) -> int:
    """Look at the next page of a job's groups; returns how many there were."""
    job = lock_jobs(session, [job_id]).get(job_id)
    if job is None or job.grouping_after is None:
        return 0
    page = sa.select(ItemGroup.name).where(
        ItemGroup.job_id == job_id, ItemGroup.name > job.grouping_after
    )
    names = list(session.scalars(page.order_by(ItemGroup.name).limit(GROUPS_AT_ONCE)))
    lock_waiting(session, {job_id: names}, ())
    advance(session, job, names)
    job.grouping_after = names[-1] if len(names) == GROUPS_AT_ONCE else None
    finish_settled_jobs(session, [job])
    return len(names)


def lock_waiting(
    session: Session, groups: Mapping[uuid.UUID, Collection[str]], also: Collection[uuid.UUID]
) -> None:
    """Lock the waiting items of these groups, by job, and those with the ids `also`, in the order
    of their ids. The caller has locked the jobs.
    """
    waiting = [
        item_id
        for job_id, names in groups.items()
        if names
        for item_id in session.scalars(
            sa.select(Item.id).where(
                *in_groups(job_id, names),
                Item.status == ItemStatus.QUEUED,
                Item.not_before == NEVER,
            )
        )
    ]
    if waiting:
        session.execute(locked_items(Item.id.in_([*waiting, *also])))


def advance(session: Session, job: Job, names: Collection[str]) -> None:
    """Let the items of these groups go on that need not wait any longer. The caller has locked the
    job, and the waiting items; nothing happens twice.
    """
    if not names or job.expanded_at is None or job.status in ENDED:
        return
    facts = _facts(session, job.id, names)
    statement = sa.select(ItemGroup).where(ItemGroup.job_id == job.id, ItemGroup.name.in_(facts))
    due: list[str] = []
    turned: list[str] = []
    for group in session.scalars(statement.order_by(ItemGroup.name)):
        fact = facts[group.name]
        if group.frame is None and not fact.unmeasured and fact.waiting:
            try:
                with session.begin_nested():
                    _close(session, job, group)
            except (ValueError, AssertionError) as error:  # a bug, or options of another version
                log.error("group-failed", job=str(job.id), group=group.name, exc_info=True)
                _fail_waiting(session, job, group.name, error)
                continue
        if group.frame is not None:
            if fact.waiting:
                due.append(group.name)
            if not fact.open:
                turned.append(group.name)
    for ready, kind in ((due, ItemKind.PHOTO), (turned, ItemKind.TURNTABLE)):
        if ready:
            session.execute(
                sa.update(Item)
                .where(
                    *in_groups(job.id, ready),
                    Item.kind == kind,
                    Item.status == ItemStatus.QUEUED,
                    Item.not_before == NEVER,
                )
                .values(not_before=now(session))
                .execution_options(synchronize_session=False)
            )


def _facts(session: Session, job_id: uuid.UUID, names: Collection[str]) -> dict[str, "sa.Row[Any]"]:
    """Of each group how many photos are open, not measured, and wait."""
    is_open = Item.status.in_(OPEN_ITEM)
    photo = Item.kind == ItemKind.PHOTO

    def count(*which: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.sum(sa.case((sa.and_(photo, *which), 1), else_=0))

    statement = (
        sa.select(
            Item.group_name,
            count(is_open).label("open"),
            count(is_open, Item.measured.is_(None)).label("unmeasured"),
            count(Item.status == ItemStatus.QUEUED, Item.not_before == NEVER).label("waiting"),
        )
        .where(*in_groups(job_id, names))
        .group_by(Item.group_name)
    )
    return {row.group_name: row for row in session.execute(statement)}


def has_open_photos(session: Session, job_id: uuid.UUID, name: str) -> bool:
    """Whether a photo of the group has not ended: a retry came while its turntable was made."""
    fact = _facts(session, job_id, [name]).get(name)
    return fact is not None and bool(fact.open)


def _close(session: Session, job: Job, group: ItemGroup) -> None:
    """Compute the frame of a group, and add its turntable if there is to be one."""
    statement = sa.select(Item.measured, Item.source, Item.position).where(
        *in_groups(job.id, [group.name]),
        Item.kind == ItemKind.PHOTO,
        Item.measured.is_not(None),
    )
    rows = session.execute(statement.order_by(Item.position)).all()
    frame = common_frame([Measured.of_json(row.measured) for row in rows])
    assert frame is not None, "a photo of the group waits, so it is measured"
    group.frame = frame.to_json()
    if job.options.get(TURNTABLE):
        add_turntable(session, job, group.name, place_of(rows[0].source))
    session.flush()


def _fail_waiting(session: Session, job: Job, name: str, error: Exception) -> None:
    """Fail the waiting photos of a group that can't get its frame: the others need not wait."""
    failure = MattingError(f"The group's common frame failed ({type(error).__name__})")
    failed = session.scalars(
        sa.update(Item)
        .where(
            *in_groups(job.id, [name]),
            Item.status == ItemStatus.QUEUED,
            Item.not_before == NEVER,
        )
        .values(
            status=ItemStatus.FAILED,
            not_before=None,
            finished_at=now(session),
            error_code=failure.code,
            error_detail=failure.message,
        )
        .returning(Item)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).all()
    job.queued -= len(failed)
    job.failed += len(failed)
    for item in failed:
        note_failed(session, item)


def work_of_groups(
    session: Session, jobs: Mapping[uuid.UUID, Any], rows: Iterable[Any]
) -> dict[uuid.UUID, GroupWork | TurntableWork | ClipWork]:
    """What workers need to know about those of these items that are in groups or clips. `jobs` have
    `source` and `of_job_id`; `rows` have `id`, `job_id`, `kind`, `group_name`, `measured` and
    `clip`.
    """
    work: dict[uuid.UUID, GroupWork | TurntableWork | ClipWork] = {}
    named: defaultdict[uuid.UUID, dict[uuid.UUID, Any]] = defaultdict(dict)
    for row in rows:
        source = jobs[row.job_id].source
        if holds_segments(jobs[row.job_id]):
            work[row.id] = ClipWork(segment=ClipSegment.of_json(row.clip))
        elif row.kind is ItemKind.CLIP:
            work[row.id] = ClipWork(state=ClipState.of_json(row.clip))
        elif row.kind is ItemKind.TURNTABLE:
            job_id = jobs[row.job_id].of_job_id or row.job_id
            work[row.id] = turntable_work(session, job_id, row.group_name or source[GROUP])
        elif row.group_name is not None:
            named[row.job_id][row.id] = row
        elif source.get(FRAME):
            work[row.id] = GroupWork(frame=GroupFrame.of_json(source[FRAME]))
    for job_id, items in named.items():
        statement = sa.select(ItemGroup.name, ItemGroup.frame).where(
            ItemGroup.job_id == job_id,
            ItemGroup.name.in_({row.group_name for row in items.values()}),
        )
        frames = {row.name: row.frame for row in session.execute(statement)}
        for item_id, row in items.items():
            frame = frames.get(row.group_name)
            work[item_id] = GroupWork(
                frame=None if frame is None else GroupFrame.of_json(frame),
                measured=None if row.measured is None else Measured.of_json(row.measured),
            )
    return work


def source_of_version(session: Session, item: Item) -> dict[str, Any]:
    """What the `source` of a job keeps that makes a version of a grouped item: the group's frame,
    or the group of a turntable.
    """
    if item.group_name is None:
        return {}
    if item.kind is ItemKind.TURNTABLE:
        return {GROUP: item.group_name}
    group = session.get(ItemGroup, (item.job_id, item.group_name))
    return {} if group is None or group.frame is None else {FRAME: group.frame}


def remove_groups(session: Session, job_id: uuid.UUID, *, limit: int) -> int:
    """Remove up to `limit` groups of a deleted job; returns how many."""
    some = sa.select(ItemGroup.name).where(ItemGroup.job_id == job_id)
    names = list(session.scalars(some.order_by(ItemGroup.name).limit(limit)))
    session.execute(
        sa.delete(ItemGroup)
        .where(ItemGroup.job_id == job_id, ItemGroup.name.in_(names))
        .execution_options(synchronize_session=False)
    )
    return len(names)
