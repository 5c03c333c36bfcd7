"""Jobs that are open: what decides about their share of the queue, and which are still listed."""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.conditions import is_open
from shared.job_store.photos_by_url import ALL_URLS, HAS_URLS, urls_out
from shared.job_store.segments import is_held_with_its_clip, is_of_segments
from shared.job_store.watches import WATCH_KIND
from shared.jobs import ENDED, EXPRESS_IMAGES
from shared.models import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJob:
    """The facts of an open job that determine its share of the queue."""

    job_id: uuid.UUID
    api_key_id: uuid.UUID
    model: str | None
    """The model in its options."""
    total: int
    queued: int
    unsettled: int
    makes_version: bool = False
    """Whether a person waits for a result to be made again."""
    of_clip: bool = False
    """Whether it holds the segments of a clip."""
    has_urls: bool = False
    """Whether it has photos by URL."""
    only_urls: bool = False
    """Whether all its photos are by URL."""
    urls_out: int = 0
    """Photos by URL that are on the queue or with a worker."""

    @property
    def express_left(self) -> int:
        """How many of its first images have not ended."""
        if self.of_clip:
            return 0
        settled = self.total - self.unsettled
        return max(0, min(EXPRESS_IMAGES, self.total) - settled)


def open_jobs(
    session: Session, *, only: uuid.UUID | None = None, but_for: uuid.UUID | None = None
) -> list[OpenJob]:
    """The open jobs with unfinished images, oldest first; `only` one of them, or all `but_for`
    one.
    """
    statement = (
        sa.select(
            Job.id,
            Job.api_key_id,
            Job.options["model"].as_string().label("model"),
            Job.total,
            Job.queued,
            (Job.queued + Job.running).label("unsettled"),
            Job.of_job_id.is_not(None).label("makes_version"),
            is_of_segments().label("of_clip"),
            sa.func.coalesce(Job.source[HAS_URLS].as_boolean(), False).label("has_urls"),
            (Job.source["kind"].as_string() == ALL_URLS).label("only_urls"),
        )
        .where(is_open(), Job.queued + Job.running > 0, _may_begin(), ~is_held_with_its_clip())
        .order_by(Job.id)
    )
    if only is not None:
        statement = statement.where(Job.id == only)
    if but_for is not None:
        statement = statement.where(Job.id != but_for)
    rows = session.execute(statement).all()
    out = urls_out(session, [row.id for row in rows if row.has_urls])
    return [
        OpenJob(
            job_id=row.id,
            api_key_id=row.api_key_id,
            model=row.model,
            total=row.total,
            queued=row.queued,
            unsettled=row.unsettled,
            makes_version=row.makes_version and not row.of_clip,
            of_clip=row.of_clip,
            has_urls=row.has_urls,
            only_urls=row.only_urls,
            urls_out=out[row.id],
        )
        for row in rows
    ]


def _may_begin() -> sa.ColumnElement[bool]:
    """The results of a job with a destination could collide as long as it is being listed."""
    return sa.or_(Job.destination.is_(None), Job.expanded_at.is_not(None))


@dataclass(frozen=True, slots=True)
class UnlistedJob:
    """A job whose source is not listed to the end."""

    id: uuid.UUID
    api_key_id: uuid.UUID
    kind: str
    """The kind of its source."""


def unexpanded_jobs(session: Session) -> list[UnlistedJob]:
    """The jobs whose source is not completely listed. Watches list their jobs themselves."""
    kind = Job.source["kind"].as_string()
    statement = (
        sa.select(Job.id, Job.api_key_id, kind)
        .where(Job.status.not_in(ENDED), Job.expanded_at.is_(None), kind != WATCH_KIND)
        .order_by(Job.id)
    )
    return [UnlistedJob(*row) for row in session.execute(statement)]
