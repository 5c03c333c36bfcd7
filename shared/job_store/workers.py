"""The workers that are alive, by their own reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.models import Worker

FORGET_AFTER_S = 86_400
"""The row of a killed worker stays; it is deleted when another worker starts after this time."""


def register_worker(session: Session, worker_id: str, description: dict[str, Any]) -> None:
    """Register a worker that has loaded, warmed up and verified its predictor."""
    moment = now(session)
    session.execute(
        sa.delete(Worker).where(Worker.heartbeat_at < moment - timedelta(seconds=FORGET_AFTER_S))
    )
    session.merge(
        Worker(
            id=worker_id,
            state="warm",
            description=description,
            started_at=moment,
            heartbeat_at=moment,
        )
    )
    session.flush()


def beat(session: Session, worker_id: str, *, state: str = "warm") -> None:
    """Record that the worker is alive."""
    session.execute(
        sa.update(Worker)
        .where(Worker.id == worker_id)
        .values(heartbeat_at=now(session), state=state)
        .execution_options(synchronize_session=False)
    )


def forget_worker(session: Session, worker_id: str) -> None:
    """Remove a worker that has stopped properly."""
    session.execute(sa.delete(Worker).where(Worker.id == worker_id))


@dataclass(frozen=True, slots=True)
class Capacity:
    """What all warm workers take together."""

    images: int
    """Messages that they hold."""
    url_places: int
    """Photos by URL that they fetch at a time."""
    models: frozenset[str]
    """The models that they serve."""


def capacity(session: Session, *, stale_s: float, url_places: int) -> Capacity:
    """The capacity of all warm workers. `url_places`: those of a worker that does not tell, and of
    all if there is no worker.
    """
    live = [worker.description for worker in live_workers(session, stale_s=stale_s)]
    return Capacity(
        images=sum(int(one.get("takes", 0)) for one in live),
        url_places=sum(int(one.get("url_places", url_places)) for one in live) or url_places,
        models=frozenset(name for one in live for name in one.get("models", ())),
    )


def live_workers(session: Session, *, stale_s: float) -> Sequence[Worker]:
    """The warm workers whose last report is at most `stale_s` seconds old."""
    return session.scalars(
        sa.select(Worker)
        .where(
            Worker.state == "warm",
            Worker.heartbeat_at >= now(session) - timedelta(seconds=stale_s),
        )
        .order_by(Worker.started_at)
    ).all()
