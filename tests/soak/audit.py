"""Checks that every image ended exactly once: the rows, counters and objects of all jobs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared.database import Database
from shared.jobs import ENDED, ItemKind, ItemStatus
from shared.kept_files import matte_key, thumbnails_key
from shared.models import Item, Job
from shared.object_url import ObjectUrl

COUNTERS = ("queued", "running", "succeeded", "failed", "cancelled")


@dataclass(slots=True)
class Findings:
    """Counts of problems. All but `items` must be 0."""

    items: int = 0
    unfinished: int = 0
    """Items that neither succeeded, failed nor were cancelled."""
    drift: int = 0
    """Jobs whose counters differ from their items."""
    missing: int = 0
    """Items that succeeded but have no object, or an empty one."""
    stray: int = 0
    """Objects below the jobs' prefixes that belong to no item."""
    again: int = 0
    """Attempts beyond the first: work that was repeated."""

    def clean(self) -> bool:
        """Whether nothing was lost, miscounted or left behind."""
        return not (self.unfinished or self.drift or self.missing or self.stray)


def audit(database: Database, bucket: str, sizes: Mapping[str, int]) -> Findings:
    """Check every row and every object. `sizes` has the bytes of each object below `jobs/`
    by key.
    """
    findings = Findings()
    wanted: set[str] = set()
    with database.transaction() as session:
        for job in session.scalars(sa.select(Job)):
            rows = session.scalars(sa.select(Item).where(Item.job_id == job.id)).all()
            counts = Counter(row.status.value for row in rows)
            findings.items += len(rows)
            findings.drift += job.total != len(rows) or job.status not in ENDED
            findings.drift += sum(getattr(job, name) != counts[name] for name in COUNTERS)
            for row in rows:
                findings.unfinished += row.finished_at is None or row.status in (
                    ItemStatus.QUEUED,
                    ItemStatus.RUNNING,
                )
                passes = 2 if row.kind is ItemKind.CLIP else 1  # it is cut, and joined
                findings.again += max(0, row.attempts - passes)
                wanted |= _inputs(row.source, bucket)
                if row.kind is ItemKind.CLIP:
                    wanted.add(f"jobs/{job.id}/handover/{row.id}-matte-facts.json")
                if row.status is ItemStatus.SUCCEEDED:
                    keys = _outputs(row)
                    wanted |= keys | {matte_key(row.result_key or "")}
                    findings.missing += any(not sizes.get(key) for key in keys)
    findings.stray = len(sizes.keys() - wanted)
    return findings


def _outputs(row: Item) -> set[str]:
    outputs: list[dict[str, Any]] = row.outputs or []
    result_key = row.result_key or ""
    return {result_key, thumbnails_key(result_key), *(str(one["key"]) for one in outputs)}


def _inputs(source: str, bucket: str) -> set[str]:
    if not source.startswith("s3://"):
        return set()
    url = ObjectUrl.parse(source, bucket)
    return {url.key} if url.bucket == bucket else set()
