"""Versions of an item's result: asked for, listed, restored.

A version is made by a job of its own with one item, which callers never see. So it takes the same
way through queue, claims and fences as any image, and until it has succeeded the item shows what it
showed before. The item's own job stays finished.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import (
    ItemNotFoundError,
    JobNotFoundError,
    MatteChangedError,
    RedoPendingError,
    ResultNotReadyError,
    VersionNotFoundError,
)
from shared.job_store.disposal import DeletedJobs
from shared.job_store.groups import source_of_version
from shared.job_store.leases import POSITION
from shared.job_store.locks import lock_jobs
from shared.job_store.photos_by_url import HAS_URLS, note_urls
from shared.job_store.reading import get_item
from shared.job_store.result_places import places_of, take_places
from shared.job_store.segments import is_of_segments
from shared.job_store.shown_version import RESULT_COLUMNS, show
from shared.job_store.usage import take_from_quota
from shared.jobs import ENDED, ItemKind, ItemStatus, JobStatus, MadeBy, Verdict
from shared.models import ApiKey, Item, Job, new_id
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.result_names import NamedPhoto

KIND = "version"
"""The kind of source of a job that makes a version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version to make."""

    job_id: uuid.UUID
    item_id: uuid.UUID
    """The ids of the job that makes it, and of its only item."""
    made_by: MadeBy
    options: dict[str, Any] | None = None
    """The complete options; None: those of the version that the item shows."""
    matte_key: str | None = None
    """The stored matte to use instead of a network's."""
    instead_of: frozenset[int] | None = None
    """Make it only if the item shows one of these versions. None: always."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an item's result."""

    job: Job
    """The job that makes it."""
    result: Item
    api_key: str
    """Name of the API key that asked for it."""

    @property
    def number(self) -> int:
        """From 1, the first result."""
        number: int = self.job.source["number"]
        return number

    @property
    def made_by(self) -> MadeBy:
        """Who found the subject."""
        return MadeBy(self.job.source["made_by"])


def begin_version(
    session: Session, item_id: uuid.UUID, new: NewVersion, *, api_key_id: uuid.UUID, kept: int
) -> tuple[Item, dict[str, Any]]:
    """Ask for a version of a succeeded item; returns the item and its job's options. Of the
    versions that have ended, these stay: the first, the one that the item shows, and the last
    `kept`. A network's version counts for the quota like any image.

    Raises ItemNotFoundError, ResultNotReadyError, RedoPendingError, MatteChangedError,
    QuotaExceededError, BadResultNameError, DestinationCollisionError.
    """
    origin, item = _locked(session, item_id, api_key_id)
    if new.instead_of is not None and item.version not in new.instead_of:
        raise MatteChangedError(f"The item has version {item.version} now")
    _begin(session, origin, [(item, new)], api_key_id=api_key_id, kept=kept)
    return item, origin.options


MOST_REDONE = 1_000
"""Most rejected images of a job that are made again in one transaction; it takes about a second."""


def redo_rejected(
    session: Session,
    job_id: uuid.UUID,
    make: Callable[[Item, dict[str, Any]], NewVersion],
    *,
    api_key_id: uuid.UUID,
    kept: int,
) -> tuple[list[uuid.UUID], int]:
    """Ask for a version of each rejected item of a job, up to MOST_REDONE of them. Items whose
    version is being made already are passed over. Returns the jobs that make them, and how many
    items are left, counted up to MOST_REDONE. `make` gets an item and its job's options.

    Raises JobNotFoundError, QuotaExceededError unless all of them fit, and what `make` raises; then
    nothing is done.
    """
    origin = lock_jobs(session, [job_id]).get(job_id)
    if origin is None or origin.deleted_at is not None:
        raise JobNotFoundError(f"There is no job {job_id}")
    rejected = sa.select(Item.id).where(
        Item.job_id == job_id,
        Item.verdict == Verdict.REJECT,
        ~_is_being_made(sa.select(Job.id), job_id).where(Job.of_item_id == Item.id).exists(),
    )
    ids = session.scalars(rejected.order_by(Item.position).limit(2 * MOST_REDONE)).all()
    statement = sa.select(Item).where(Item.id.in_(ids[:MOST_REDONE])).order_by(Item.id)
    items = session.scalars(
        statement.with_for_update().execution_options(populate_existing=True)
    ).all()
    pairs = [(item, make(item, origin.options)) for item in items]
    _begin(session, origin, pairs, api_key_id=api_key_id, kept=kept)
    return [new.job_id for _, new in pairs], len(ids) - len(pairs)


def _begin(
    session: Session,
    origin: Job,
    pairs: Sequence[tuple[Item, NewVersion]],
    *,
    api_key_id: uuid.UUID,
    kept: int,
) -> None:
    """The same for locked items of a locked job. Raises QuotaExceededError, BadResultNameError,
    DestinationCollisionError.
    """
    earlier = _version_jobs(session, origin.id, [item.id for item, _ in pairs])
    first = [item for item, _ in pairs if item.id not in earlier]
    for job in _first_versions(session, origin, first):
        assert job.of_item_id is not None
        earlier[job.of_item_id] = [job]
    counted = sum(
        new.made_by is MadeBy.NETWORK and item.kind is not ItemKind.TURNTABLE for item, new in pairs
    )
    take_from_quota(session, api_key_id, counted)
    if (template := origin.destination) is not None:
        changed = [
            (item, new)
            for item, new in pairs
            if new.options is not None and item.kind is not ItemKind.TURNTABLE
        ]
        take_places(session, origin, [_places(template, *pair) for pair in changed])
    moment = now(session)
    for item, new in pairs:
        number = 1 + max(job.source["number"] for job in earlier[item.id])
        source = {"kind": KIND, "number": number, "made_by": new.made_by.value}
        source |= {POSITION: item.position, **source_of_version(session, item)}
        made = Job(
            id=new.job_id,
            api_key_id=api_key_id,
            of_job_id=origin.id,
            of_item_id=item.id,
            priority=origin.priority,
            options=(None if item.kind is ItemKind.TURNTABLE else new.options)
            or item.options
            or origin.options,
            destination=origin.destination,
            source=source if new.matte_key is None else {**source, "matte": new.matte_key},
            suspect=origin.suspect,
            total=1,
            queued=1,
            turntables_left=int(item.kind is ItemKind.TURNTABLE),
            created_at=moment,
            expanded_at=moment,
        )
        note_urls(made, [item.source])
        if item.kind is not ItemKind.PHOTO:
            made.source = {**made.source, HAS_URLS: True}
        session.add(made)
        item.redo = {"number": number, "made_by": new.made_by.value, "status": "waiting"}
        for job in earlier[item.id][1:-kept]:
            if job.source["number"] != item.version:
                job.deleted_at = moment
    session.flush()
    for item, new in pairs:
        session.add(
            Item(
                id=new.item_id,
                job_id=new.job_id,
                position=1,
                name=item.name,
                source=item.source,
                custom_id=item.custom_id,
                labels=item.labels,
                kind=item.kind,
                created_at=moment,
            )
        )
    session.flush()


def _places(
    template: str, item: Item, new: NewVersion
) -> tuple[uuid.UUID, NamedPhoto, list[ObjectUrl]]:
    """What a version with other options writes to the job's destination."""
    photo = NamedPhoto(item.name, item.custom_id, item.position, item.labels or {})
    options = Options.model_validate(new.options)
    is_clip = item.kind is ItemKind.CLIP
    return item.id, photo, places_of(template, photo, item.source, options, clip=is_clip)


def _locked(session: Session, item_id: uuid.UUID, api_key_id: uuid.UUID) -> tuple[Job, Item]:
    """A succeeded item and its job, locked, of which no version is being made."""
    found = get_item(session, item_id, api_key_id=api_key_id)
    if found is None:
        raise ItemNotFoundError(f"There is no item {item_id}")
    origin = lock_jobs(session, [found[0].job_id]).get(found[0].job_id)
    if origin is None or origin.deleted_at is not None:
        raise ItemNotFoundError(f"There is no item {item_id}")
    item = session.get_one(Item, item_id, with_for_update=True, populate_existing=True)
    if item.status is not ItemStatus.SUCCEEDED:
        raise ResultNotReadyError(f"The item is {item.status}")
    pending = _is_being_made(sa.select(Job.id), origin.id).where(Job.of_item_id == item.id)
    if session.scalar(pending.limit(1)) is not None:
        raise RedoPendingError
    return origin, item


def _of_item(item: Item) -> sa.Select[Any]:
    """The jobs that make versions of an item."""
    return sa.select(Job).where(
        Job.of_job_id.is_not(None),
        Job.of_job_id == item.job_id,
        Job.of_item_id == item.id,
        ~is_of_segments(),
    )


def _is_being_made(statement: sa.Select[Any], job_id: uuid.UUID) -> sa.Select[Any]:
    """Limit a query to jobs that are still making versions of this job's items."""
    return statement.where(
        Job.of_job_id.is_not(None),
        Job.of_job_id == job_id,
        Job.status.not_in(ENDED),
        Job.deleted_at.is_(None),
        ~is_of_segments(),
    )


def _version_jobs(
    session: Session, job_id: uuid.UUID, item_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, list[Job]]:
    """The jobs that made the kept versions of a job's items, by item, oldest first."""
    statement = sa.select(Job).where(
        Job.of_job_id.is_not(None),
        Job.of_job_id == job_id,
        Job.of_item_id.in_(item_ids),
        Job.deleted_at.is_(None),
        ~is_of_segments(),
    )
    found: defaultdict[uuid.UUID, list[Job]] = defaultdict(list)
    for job in sorted(session.scalars(statement), key=lambda job: int(job.source["number"])):
        assert job.of_item_id is not None
        found[job.of_item_id].append(job)
    return dict(found)


def _first_versions(session: Session, origin: Job, items: Sequence[Item]) -> list[Job]:
    """Copy the rows of first results, before the second version is made. Most items have one result
    only, and need no copy.
    """
    made = [
        Job(
            id=new_id(),
            api_key_id=origin.api_key_id,
            of_job_id=origin.id,
            of_item_id=item.id,
            status=JobStatus.FINISHED,
            priority=origin.priority,
            options=item.options or origin.options,
            source={"kind": KIND, "number": item.version, "made_by": MadeBy.NETWORK.value},
            total=1,
            succeeded=1,
            created_at=item.created_at,
            expanded_at=item.created_at,
            finished_at=item.finished_at,
        )
        for item in items
    ]
    session.add_all(made)
    session.flush()
    for item, job in zip(items, made, strict=True):
        session.add(
            Item(
                id=new_id(),
                job_id=job.id,
                position=1,
                name=item.name,
                source=item.source,
                custom_id=item.custom_id,
                kind=item.kind,
                status=ItemStatus.SUCCEEDED,
                attempts=item.attempts,
                created_at=item.created_at,
                **{column: getattr(item, column) for column in RESULT_COLUMNS},
            )
        )
    session.flush()
    return made


def list_versions(session: Session, item: Item) -> list[Version]:
    """The versions of an item, oldest first; none if its first result is the only one."""
    statement = (
        _of_item(item)
        .where(Job.deleted_at.is_(None))
        .join(Item, Item.job_id == Job.id)
        .join(ApiKey, ApiKey.id == Job.api_key_id)
        .with_only_columns(Job, Item, ApiKey.name)
    )
    versions = [Version(*row) for row in session.execute(statement)]
    return sorted(versions, key=lambda version: version.number)


def restore_version(
    session: Session, item_id: uuid.UUID, number: int, *, api_key_id: uuid.UUID
) -> tuple[Item, dict[str, Any]]:
    """Let an item show an earlier version again; returns the item and its job's options.

    Raises ItemNotFoundError, ResultNotReadyError, RedoPendingError, VersionNotFoundError.
    """
    origin, item = _locked(session, item_id, api_key_id)
    for version in list_versions(session, item):
        if version.number == number and version.result.status is ItemStatus.SUCCEEDED:
            show(origin, item, version.job, version.result)
            session.flush()
            return item, origin.options
    if number != item.version:
        raise VersionNotFoundError(f"The item {item_id} has no finished version {number}")
    return item, origin.options


def stop_versions(session: Session, job_id: uuid.UUID, *, limit: int) -> DeletedJobs:
    """Stop up to `limit` jobs that make versions of a deleted job's items, or hold segments of its
    clips, and mark them as deleted.
    """
    statement = (
        sa.select(Job.id)
        .where(Job.of_job_id.is_not(None), Job.of_job_id == job_id)
        .order_by(Job.id)
        .limit(limit)
    )
    jobs = lock_jobs(session, session.scalars(statement).all())
    moment = now(session)
    for job in jobs.values():
        if job.status not in ENDED:
            job.cancelled, job.queued = job.cancelled + job.queued, 0
            job.status, job.finished_at = JobStatus.CANCELLED, moment
        job.deleted_at = job.deleted_at or moment
    session.flush()
    return DeletedJobs(
        removable=[job.id for job in jobs.values() if not job.running],
        in_use=any(job.running for job in jobs.values()),
    )
