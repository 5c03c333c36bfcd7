"""Which jobs have photos by URL, and how many of these photos are on their way."""

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.conditions import is_value
from shared.jobs import ItemKind, ItemStatus
from shared.models import Item, Job

HAS_URLS = "has_urls"
"""The mark in the `source` of a job with photos by URL."""

ALL_URLS = "urls"
"""The `kind` of a source that consists of URLs."""

JOBS_AT_ONCE = 1_000


def is_url(source: str) -> bool:
    """Whether a photo's source is a URL; other sources are `s3://bucket/key`."""
    return not source.startswith("s3://")


def is_slow() -> sa.ColumnElement[bool]:
    """Whether an item waits on the queues of photos by URL, whose places are each for one item: its
    host may be slow, or it is a clip or a turntable, which take long.
    """
    return sa.or_(
        Item.source.not_like("s3://%"),
        Item.kind != sa.literal(ItemKind.PHOTO, Item.kind.type, literal_execute=True),
    )


def note_urls(job: Job, sources: Iterable[str]) -> None:
    """Mark a job if one of these new sources is a URL."""
    if not job.source.get(HAS_URLS) and any(map(is_url, sources)):
        job.source = {**job.source, HAS_URLS: True}


def urls_out(session: Session, job_ids: Sequence[uuid.UUID]) -> Counter[uuid.UUID]:
    """The number of photos by URL of each of these jobs that are on the queue or with a worker."""
    out: Counter[uuid.UUID] = Counter()
    for start in range(0, len(job_ids), JOBS_AT_ONCE):
        some = Item.job_id.in_(job_ids[start : start + JOBS_AT_ONCE])
        by_url = is_slow()
        queued = is_value(Item.status, ItemStatus.QUEUED)
        for state in (
            sa.and_(queued, Item.published_at.is_not(None)),
            is_value(Item.status, ItemStatus.RUNNING),
        ):
            counted = sa.select(Item.job_id, sa.func.count()).where(some, state, by_url)
            for job_id, count in session.execute(counted.group_by(Item.job_id)):
                out[job_id] += count
    return out
