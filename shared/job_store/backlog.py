"""The backlog, summed up from the counters of the open jobs; no query counts images."""

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
    """Age of the oldest of these jobs with waiting images, in s; 0 if there is none."""


def backlog(session: Session) -> list[Backlog]:
    """The backlog of all open jobs that are not paused."""
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
