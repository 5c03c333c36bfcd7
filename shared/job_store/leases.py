"""Items in workers: claim them, renew the lease."""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.clips import ClipWork
from shared.database import now
from shared.groups import NEVER, GroupWork, TurntableWork
from shared.job_store.conditions import is_among, is_postgresql, statement_time
from shared.job_store.groups import work_of_groups
from shared.job_store.locks import lock_jobs_for_reading, locked_items
from shared.job_store.segments import (
    holds_segments,
    is_held_with_its_clip,
)
from shared.jobs import (
    ALONE_DEATHS,
    HELD,
    ItemKind,
    ItemStatus,
    JobStatus,
)
from shared.models import Item, Job, place_of
from shared.result_names import NamedPhoto


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An item that a worker holds until its lease expires."""

    item_id: uuid.UUID
    job_id: uuid.UUID
    name: str
    source: str
    api_key_id: uuid.UUID
    """The API key of the job."""
    owner: str
    attempt: int
    """Number of the attempt, from 1; a retry by the caller starts again. Owner and attempt are the
    fence that refuses a late worker's record.
    """
    options: dict[str, Any]
    claimed_at: datetime
    """By the database's clock: later claims of an image have later times."""
    photo: NamedPhoto
    """What the image fills into names."""
    destination: str | None = None
    """The template of the keys that results are also written to."""
    forwarded_to: str | None = None
    """The second model, which looks at the item now."""
    of_job_id: uuid.UUID | None = None
    """The job whose item gets this result as a new version."""
    matte_key: str | None = None
    """The object key of the matte to use instead of a network's."""
    group_name: str | None = None
    """The group that the item belongs to."""
    work: GroupWork | TurntableWork | ClipWork | None = None
    """What is due for its group or clip; None: it is a photo by itself."""
    suspect: bool = False
    """The item was in flight when a worker died, or its job contains a photo that killed one."""


JOBS: sa.Table = Job.__table__  # type: ignore[assignment]

MOST_DEATHS = 2**31 - 1
"""More than any item has."""

POSITION = "position"
"""Where the `source` of a job that makes a version keeps the item's position in its own job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRows:
    """What a transaction has claimed. To make claims of the rows needs no lock, so it can be done
    after the commit.
    """

    rows: Sequence[Any]
    jobs: Mapping[uuid.UUID, Any]
    work: Mapping[uuid.UUID, GroupWork | TurntableWork | ClipWork]
    item_ids: Sequence[uuid.UUID]
    """What was asked for, in this order."""
    owner: str
    lease: timedelta

    def claims(self) -> list[Claim]:
        """The claims, in the order that was asked for."""
        order = {item_id: index for index, item_id in enumerate(self.item_ids)}
        return [self._claim(row) for row in sorted(self.rows, key=lambda row: order[row.id])]

    def _claim(self, row: Any) -> Claim:
        job = self.jobs[row.job_id]
        return Claim(
            item_id=row.id,
            job_id=row.job_id,
            name=row.name,
            source=place_of(row.source),
            api_key_id=job.api_key_id,
            owner=self.owner,
            attempt=row.attempts,
            options=row.options or job.options,
            claimed_at=row.lease_expires_at - self.lease,
            photo=NamedPhoto(
                row.name,
                row.custom_id,
                job.source.get(POSITION, row.position),
                row.labels or {},
            ),
            destination=None if row.kind is ItemKind.TURNTABLE else job.destination,
            forwarded_to=row.forwarded_to,
            of_job_id=job.of_job_id,
            matte_key=job.source.get("matte"),
            group_name=row.group_name,
            work=self.work.get(row.id),
            suspect=row.deaths > 0 or job.suspect,
        )


def claim_many(
    session: Session,
    item_ids: Sequence[uuid.UUID],
    *,
    job_ids: Iterable[uuid.UUID],
    owner: str,
    lease_s: float,
    alone: bool = False,
) -> ClaimedRows:
    """Claim the waiting ones of these items. Items that are done, cancelled or claimed by others
    are left out, and so are items that must run alone, unless `alone` is set. `job_ids`: the jobs
    of the items, as the messages say. Make the claims after the commit: others wait for the jobs.
    """
    jobs = lock_jobs_for_reading(session, job_ids, *OF_JOB)
    held = _held_with_their_clips(session, jobs.values())
    open_ids = [job.id for job in jobs.values() if job.status not in HELD and job.id not in held]
    postgres = is_postgresql(session)
    lease = timedelta(seconds=lease_s)
    parameters: dict[str, Any] = {
        "items": list(item_ids),
        "jobs": open_ids,
        "owner": owner,
        "fewer_deaths": MOST_DEATHS if alone else ALONE_DEATHS,
    }
    if postgres:
        parameters["lease"] = lease
        rows = session.execute(_claiming_and_counting(), parameters).all()
    else:
        moment = now(session)
        parameters |= {"moment": moment, "expires": moment + lease}
        rows = session.execute(_claiming(postgres=False), parameters).all()
        for job_id, count in Counter(row.job_id for row in rows).items():
            session.execute(_COUNTING, {"job": job_id, "claimed": count, "moment": moment})
    return ClaimedRows(
        rows=rows,
        jobs=jobs,
        work=work_of_groups(session, jobs, rows),
        item_ids=item_ids,
        owner=owner,
        lease=lease,
    )


OF_JOB = (
    Job.api_key_id,
    Job.status,
    Job.options,
    Job.source,
    Job.destination,
    Job.suspect,
    Job.of_job_id,
)
"""What claims need of a job."""

CLAIMED = (
    Item.id,
    Item.job_id,
    Item.name,
    Item.source,
    Item.attempts,
    Item.options,
    Item.forwarded_to,
    Item.deaths,
    Item.custom_id,
    Item.position,
    Item.labels,
    Item.kind,
    Item.group_name,
    Item.measured,
    Item.clip,
    Item.lease_expires_at,
)
"""What claims need of an item."""


@cache
def _claiming(*, postgres: bool) -> sa.sql.dml.ReturningUpdate[Any]:
    """Built once: that takes as long as a round trip. Its clock begins after the jobs were locked,
    so later claims of an item have later times.
    """
    moment = statement_time(postgres=postgres)
    expires = sa.bindparam("expires", type_=Item.lease_expires_at.type)
    return (
        sa.update(Item)
        .where(
            is_among(Item.id, "items", postgres=postgres),  # else it may read the whole table
            Item.id.in_(
                locked_items(
                    is_among(Item.id, "items", postgres=postgres),
                    Item.status == ItemStatus.QUEUED,
                    sa.or_(Item.not_before.is_(None), Item.not_before != NEVER),
                    is_among(Item.job_id, "jobs", postgres=postgres),
                    Item.deaths < sa.bindparam("fewer_deaths"),
                )
            ),
        )
        .values(
            status=ItemStatus.RUNNING,
            attempts=Item.attempts + 1,
            lease_owner=sa.bindparam("owner"),
            lease_expires_at=moment + sa.bindparam("lease", type_=sa.Interval())
            if postgres
            else expires,
            started_at=sa.func.coalesce(Item.started_at, moment),
        )
        .returning(*CLAIMED)
        .execution_options(synchronize_session=False)
    )


def _count_claimed(
    job_id: Any, claimed: sa.ColumnElement[int], moment: sa.ColumnElement[datetime]
) -> sa.Update:
    """Move so many images of a locked job from `queued` to `running`."""
    return (
        sa.update(JOBS)
        .where(JOBS.c.id == job_id)
        .values(
            queued=JOBS.c.queued - claimed,
            running=JOBS.c.running + claimed,
            status=JobStatus.RUNNING,
            started_at=sa.func.coalesce(JOBS.c.started_at, moment),
        )
    )


_COUNTING = _count_claimed(
    sa.bindparam("job", type_=sa.Uuid()),
    sa.bindparam("claimed", type_=sa.Integer()),
    statement_time(postgres=False),
)


@cache
def _claiming_and_counting() -> sa.Select[Any]:
    """Both in one statement for PostgreSQL. It sees the jobs as they were when they were locked."""
    claimed = _claiming(postgres=True).cte("claimed")
    of_jobs = (
        sa.select(claimed.c.job_id, sa.func.count().label("claimed"))
        .group_by(claimed.c.job_id)
        .subquery("of_jobs")
    )
    counting = _count_claimed(of_jobs.c.job_id, of_jobs.c.claimed, statement_time(postgres=True))
    return sa.select(*claimed.c).add_cte(counting.cte("counted"))


def _held_with_their_clips(session: Session, jobs: Iterable[Any]) -> set[uuid.UUID]:
    """Those of these jobs that hold segments of a clip whose job is paused or has ended."""
    ids = [job.id for job in jobs if holds_segments(job)]
    if not ids:
        return set()
    return set(session.scalars(sa.select(Job.id).where(Job.id.in_(ids), is_held_with_its_clip())))


def must_run_alone(session: Session, item_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """The waiting ones of these items that must run alone."""
    statement = sa.select(Item.id).where(
        Item.id.in_(item_ids),
        Item.status == ItemStatus.QUEUED,
        Item.deaths >= ALONE_DEATHS,
    )
    return list(session.scalars(statement))


def renew_leases(
    session: Session, item_ids: Sequence[uuid.UUID], *, owner: str, lease_s: float
) -> None:
    """Renew the leases of the items that this worker still holds, for another `lease_s`."""
    session.execute(
        sa.update(Item)
        .where(
            Item.id.in_(
                locked_items(
                    Item.id.in_(item_ids),
                    Item.status == ItemStatus.RUNNING,
                    Item.lease_owner == owner,
                )
            )
        )
        .values(lease_expires_at=now(session) + timedelta(seconds=lease_s))
        .execution_options(synchronize_session=False)
    )
