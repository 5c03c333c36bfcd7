"""How much work waits: added up from the counters of the open jobs, so no image is counted."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.job_store.conditions import is_open
from shared.models import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The open jobs of one model and priority."""

    model: str | None
    priority: int
    waiting: int
    running: int
    oldest_s: float
    """Age of the oldest of these jobs that still has images waiting; 0 when none has."""


def backlog(session: Session) -> list[Backlog]:
    """What every open job that is not held still has to do."""
    model = Job.options["model"].as_string()
    statement = (
        sa.select(
            model,
            Job.priority,
            sa.func.sum(Job.queued),
            sa.func.sum(Job.running),
            sa.func.min(sa.case((Job.queued > 0, Job.created_at))),
        )
        .where(is_open(), Job.queued + Job.running > 0)
        .group_by(model, Job.priority)
    )
    moment = now(session)
    return [
        Backlog(
            model=row[0],
            priority=row[1],
            waiting=int(row[2]),
            running=int(row[3]),
            oldest_s=(moment - row[4]).total_seconds() if row[4] else 0.0,
        )
        for row in session.execute(statement)
    ]
