"""Segments of clips: items of a job that no caller sees, so that several workers matte one clip.

The clip waits meanwhile, queued and due at NEVER. The transaction that records the last segment
makes it due for its join, or lets it fail with the error of a segment. Both happen while the clip's
job is locked.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from shared.clips import ClipSegment, ClipState
from shared.database import now
from shared.groups import NEVER
from shared.job_store.conditions import is_value
from shared.job_store.failed_images import note_failed
from shared.job_store.photos_by_url import HAS_URLS
from shared.jobs import ALONE_DEATHS, ENDED, EXPRESS_IMAGES, HELD, ItemKind, ItemStatus, JobStatus
from shared.models import MARK_BEGINS, Item, Job, new_id

SEGMENTS = "segments"
"""The kind of source of a job that holds the segments of a clip."""


def holds_segments(job: Job) -> bool:
    """Whether a job holds the segments of a clip."""
    return bool(job.source.get("kind") == SEGMENTS)


def is_of_segments() -> sa.ColumnElement[bool]:
    """The same as a condition."""
    return sa.and_(Job.of_job_id.is_not(None), Job.source["kind"].as_string() == SEGMENTS)


def is_held_with_its_clip() -> sa.ColumnElement[bool]:
    """Whether a job holds segments of a clip whose own job is paused, or has ended."""
    origin = aliased(Job)
    held = sa.select(origin.id).where(origin.id == Job.of_job_id, origin.status.in_(HELD))
    return sa.and_(is_of_segments(), held.exists())


def spread(
    session: Session, origin: Job, item_id: uuid.UUID, state: ClipState, cut: Sequence[ClipSegment]
) -> None:
    """Let workers take the segments of a clip whose mattes are not stored. The caller has locked
    its job, and the clip waits. Segments that failed or are gone are tried again. Jobs of another
    file at the same place are given up.
    """
    known = None
    for job in session.scalars(
        _of_item(origin.id, item_id).with_for_update().execution_options(populate_existing=True)
    ):
        if job.source["file_bytes"] == state.file_bytes and job.total == len(cut):
            known = job
        else:
            _give_up(session, job)
    if known is None:
        _begin(session, origin, item_id, state, cut)
    else:
        _reopen(session, known, item_id, state)


def _begin(
    session: Session, origin: Job, item_id: uuid.UUID, state: ClipState, cut: Sequence[ClipSegment]
) -> None:
    clip = session.get_one(Item, item_id, populate_existing=True)
    moment = now(session)
    job = Job(
        id=new_id(),
        api_key_id=origin.api_key_id,
        of_job_id=origin.id,
        of_item_id=item_id,
        priority=origin.priority,
        options=clip.options or origin.options,
        source={"kind": SEGMENTS, "file_bytes": state.file_bytes, HAS_URLS: True},
        suspect=origin.suspect,
        total=len(cut),
        queued=len(cut),
        created_at=moment,
        expanded_at=moment,
    )
    session.add(job)
    session.flush()
    folder = _folder_of(job)
    session.add_all(
        Item(
            id=new_id(),
            job_id=job.id,
            # behind the express images: a long clip holds up no photos
            position=EXPRESS_IMAGES + 1 + one.number,
            name=clip.name,
            source=f"{clip.source}{MARK_BEGINS}{SEGMENTS} {one.number}",
            custom_id=clip.custom_id,
            kind=ItemKind.CLIP,
            clip=replace(one, mattes_key=f"{folder}{one.number}.zip").to_json(),
            created_at=moment,
        )
        for one in cut
    )
    clip.clip = replace(state, done=0, frames_done=0, gone=(), mattes=folder).to_json()
    session.flush()


def _reopen(session: Session, job: Job, item_id: uuid.UUID, state: ClipState) -> None:
    """Queue the segments again that have no mattes; without one, the clip is due for its join."""
    for item in _segments_of(session, job):
        number = (item.clip or {})["number"]
        is_gone = item.status is ItemStatus.SUCCEEDED and number in state.gone
        if item.status in (ItemStatus.FAILED, ItemStatus.CANCELLED) or is_gone:
            setattr(job, item.status.value, getattr(job, item.status.value) - 1)
            job.queued += 1
            item.status, item.attempts = ItemStatus.QUEUED, 0
            item.not_before = item.published_at = item.finished_at = None
            item.error_code = item.error_detail = None
    session.flush()
    clip = session.get_one(Item, item_id, populate_existing=True)
    done = [one for one in _segments_of(session, job) if one.status is ItemStatus.SUCCEEDED]
    clip.clip = replace(
        state,
        done=len(done),
        frames_done=sum(map(_frames, done)),
        gone=(),
        mattes=_folder_of(job),
    ).to_json()
    if job.queued + job.running == 0:
        clip.not_before = now(session)
    elif job.status in ENDED:
        job.status, job.finished_at, job.pending_change = JobStatus.RUNNING, None, None
    session.flush()


def _folder_of(job: Job) -> str:
    """Where the mattes of a job of segments lie."""
    return f"jobs/{job.id}/mattes/"


def _segments_of(session: Session, job: Job) -> Sequence[Item]:
    """The locked segments of a job."""
    statement = sa.select(Item).where(Item.job_id == job.id).order_by(Item.id).with_for_update()
    return session.scalars(statement.execution_options(populate_existing=True)).all()


def _frames(item: Item) -> int:
    segment = ClipSegment.of_json(item.clip or {})
    return segment.last - segment.first


def _give_up(session: Session, job: Job) -> None:
    """Stop a job of segments; the sweeper removes it."""
    moment = now(session)
    if job.status not in ENDED:
        job.cancelled, job.queued = job.cancelled + job.queued, 0
        job.status, job.finished_at = JobStatus.CANCELLED, moment
    job.pending_change, job.deleted_at = None, moment
    session.flush()


def give_up_segments(
    session: Session, origin_id: uuid.UUID, item_id: uuid.UUID | None = None
) -> None:
    """Stop the segments of a clip that has ended, or of all clips of a job that was cancelled; the
    sweeper removes them and their mattes. The caller has locked the clips' job.
    """
    for job in session.scalars(
        _of_item(origin_id, item_id).with_for_update().execution_options(populate_existing=True)
    ):
        _give_up(session, job)


def jobs_of_segments(session: Session, origin_id: uuid.UUID) -> list[uuid.UUID]:
    """The jobs that hold segments of the clips of a job."""
    return [job.id for job in session.scalars(_of_item(origin_id, None))]


def note_segments(
    session: Session, jobs: Mapping[uuid.UUID, Job], done: Collection[tuple[uuid.UUID, Any]]
) -> None:
    """Count segments that were recorded, in the rows of their clips. `done`: the job of each, and
    its settlement. The caller has locked the jobs of segments and of their clips.
    """
    if not done:
        return
    for job_id, settlement in done:
        job = jobs[job_id]
        segment: ClipSegment = settlement.claim.work.segment
        clip = _clip_of(session, job)
        if clip is None:
            continue
        state = ClipState.of_json(clip.clip)
        if state is None or state.file_bytes != segment.file_bytes:
            continue
        stages = dict.fromkeys([*state.timings_ms, *settlement.timings_ms])
        clip.clip = replace(
            state,
            done=state.done + 1,
            frames_done=state.frames_done + segment.last - segment.first,
            gone=tuple(number for number in state.gone if number != segment.number),
            timings_ms={
                stage: round(
                    state.timings_ms.get(stage, 0.0) + settlement.timings_ms.get(stage, 0.0), 3
                )
                for stage in stages
            },
        ).to_json()
        jobs[clip.job_id].progressed_at = now(session)
    session.flush()


def end_segments(session: Session, job: Job) -> Job | None:
    """Let the clip go on whose segments have all ended: it is due for its join, or it fails like
    the first of them that failed. Returns its job; None: nothing waits for them.
    """
    origin = session.get(
        Job, job.of_job_id, with_for_update={"key_share": True}, populate_existing=True
    )
    clip = _clip_of(session, job)
    if origin is None or clip is None or origin.status in ENDED:
        return None
    if not job.failed and not job.cancelled:
        clip.not_before, clip.published_at, clip.deaths = now(session), None, 0
        return origin
    failed = sa.select(Item.error_code, Item.error_detail).where(
        Item.job_id == job.id, Item.status == ItemStatus.FAILED
    )
    first = session.execute(failed.order_by(Item.position).limit(1)).one_or_none()
    if first is None:
        return None
    clip.status, clip.finished_at, clip.not_before = ItemStatus.FAILED, now(session), None
    clip.error_code, clip.error_detail = first.error_code, first.error_detail
    origin.queued -= 1
    origin.failed += 1
    origin.progressed_at = now(session)
    origin.suspect = origin.suspect or job.suspect
    note_failed(session, clip)
    return origin


def _clip_of(session: Session, job: Job) -> Item | None:
    """The clip that waits for these segments, locked."""
    clip = session.get(Item, job.of_item_id, with_for_update=True, populate_existing=True)
    waits = clip is not None and clip.status is ItemStatus.QUEUED and clip.not_before == NEVER
    return clip if waits else None


def _of_item(origin_id: uuid.UUID, item_id: uuid.UUID | None) -> sa.Select[tuple[Job]]:
    """The jobs of segments of an item, or of all items of a job."""
    statement = sa.select(Job).where(
        Job.of_job_id.is_not(None), Job.of_job_id == origin_id, Job.deleted_at.is_(None)
    )
    if item_id is not None:
        statement = statement.where(Job.of_item_id == item_id)
    return statement.where(Job.source["kind"].as_string() == SEGMENTS).order_by(Job.id)


def is_clip_to_cut() -> sa.ColumnElement[bool]:
    """Whether the next claim of a clip cuts it: it is new, or is tried again and lacks mattes."""
    done, segments = Item.clip["done"].as_integer(), Item.clip["segments"].as_integer()
    return sa.or_(Item.clip.is_(None), done < segments)


def clips_under_way(session: Session, job_id: uuid.UUID) -> int:
    """How many clips of a job wait for their segments, or are about to be cut."""
    queued = is_value(Item.status, ItemStatus.QUEUED)
    uncut = Item.kind == ItemKind.CLIP, is_clip_to_cut()
    states = (
        (queued, Item.published_at.is_(None), Item.not_before == NEVER, Item.kind == ItemKind.CLIP),
        (queued, Item.published_at.is_not(None), *uncut),
        (is_value(Item.status, ItemStatus.RUNNING), *uncut),
    )
    counts = (
        sa.select(sa.func.count()).where(Item.job_id == job_id, *state).scalar_subquery()
        for state in states  # apart: each has an index of its own
    )
    return session.scalar(sa.select(sum(counts, sa.literal(0)))) or 0


def waiting_segment(session: Session, job_id: uuid.UUID) -> uuid.UUID | None:
    """The last segment of this job that is due and that nobody has claimed."""
    statement = (
        sa.select(Item.id)
        .join(Job, Job.id == Item.job_id)
        .where(
            is_of_segments(),
            Item.job_id == job_id,
            is_value(Item.status, ItemStatus.QUEUED),
            sa.or_(Item.not_before.is_(None), Item.not_before <= now(session)),
            Item.deaths < ALONE_DEATHS,
        )
    )
    return session.scalar(statement.order_by(Item.position.desc()).limit(1))
