"""Measures the reconciler with very many open jobs: the length of a round, and the time until every
job had its turn.
"""

import os
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from deploy.stack.processes import answers, free_port, program, start, wait_until
from shared.database import Database
from shared.job_store.conditions import is_open
from shared.jobs import ItemStatus, JobStatus
from shared.models import Item, Job
from shared.queue import make_app
from shared.reconciler import LEADER_LEASE_S, Reconciler
from shared.settings import Settings
from tests.scale.generate import patient

OPEN_JOBS = (2_000, 10_000)


def measure_rounds(database: Database, folder: Path) -> list[dict[str, Any]]:
    """Measure with different numbers of open jobs, each with waiting images. Prints each row at
    once.
    """
    port = free_port()
    command = [program("redis-server"), "--port", str(port), "--save", ""]
    redis = start("redis", command, log=folder / "redis.log", folder=folder, env=dict(os.environ))
    wait_until(lambda: answers(port), redis, timeout_s=180)
    settings = Settings.model_validate(
        {"database_url": str(database.url), "redis_url": f"redis://127.0.0.1:{port}/0"}
    )
    queue = make_app(settings)
    try:
        rows = []
        for open_jobs in OPEN_JOBS:
            _open(database, open_jobs)
            reconciler = Reconciler(database, queue, settings)
            for what in ("with something to send", "with nothing to send"):
                rows.append(_measured(reconciler, open_jobs, what))
        return rows
    finally:
        queue.close()
        redis.stop(10)


def _measured(reconciler: Reconciler, open_jobs: int, what: str) -> dict[str, Any]:
    """Run rounds until every job had its turn."""
    taken: list[float] = []
    waits = 0.0
    while waits == 0.0:
        started = time.perf_counter()
        waits = reconciler.round()
        taken.append(time.perf_counter() - started)
    row = {
        "open_jobs": open_jobs,
        "what": what,
        "rounds": len(taken),
        "longest_s": round(max(taken), 2),
        "all_s": round(sum(taken), 2),
        "too_slow": max(taken) > LEADER_LEASE_S / 2,
    }
    print(
        f"{open_jobs:,} open jobs {what}: {row['rounds']} rounds, the longest "
        f"{row['longest_s']} s; every job had its turn after {row['all_s']} s",
        flush=True,
    )
    return row


def _open(database: Database, count: int) -> None:
    """Reopen this many of the newest small jobs, with three waiting images each."""
    with patient(database) as connection:
        connection.execute(sa.update(Job).where(is_open()).values(status=JobStatus.PAUSED))
        newest = sa.select(Job.id).where(Job.total < 100).order_by(Job.id.desc()).limit(count)
        ids = list(connection.scalars(newest))
        values = {"status": JobStatus.RUNNING, "queued": 3, "running": 0, "deleted_at": None}
        for start in range(0, count, 500):
            some = ids[start : start + 500]
            connection.execute(sa.update(Job).where(Job.id.in_(some)).values(**values))
            items = sa.update(Item).where(Item.job_id.in_(some))
            connection.execute(items.values(status=ItemStatus.SUCCEEDED, published_at=None))
            connection.execute(items.where(Item.position <= 3).values(status=ItemStatus.QUEUED))
        connection.exec_driver_sql("VACUUM ANALYZE jobs, items")
