"""Measures changes of very large jobs: the longest transaction, and the whole change."""

import time
from collections.abc import Callable
from typing import Any

from shared import job_store
from shared.database import Database, Session
from tests.scale.generate import Landmarks

LIMIT_MS = 200.0
"""Limit for one transaction."""

PAGE_ROWS = 1_000
"""The sweeper's page size (api.background.sweeper)."""


def measure_changes(database: Database, marks: Landmarks) -> list[dict[str, Any]]:
    """Resume, retry, cancel and delete a job. Prints each result at once."""

    def pages(session: Session) -> int:
        return job_store.continue_change(session, marks.failed)

    def cancelled_pages(session: Session) -> int:
        return job_store.continue_change(session, marks.bulk)

    def removed_pages(session: Session) -> int:
        return job_store.remove_items(session, marks.failed, limit=PAGE_ROWS)

    with database.transaction() as session:
        job_store.pause_job(session, marks.bulk)
    return [
        _measured(database, "resume", lambda s: job_store.resume_job(s, marks.bulk)),
        _measured(database, "retry", lambda s: job_store.retry_failed(s, marks.failed), pages),
        _measured(
            database, "cancel", lambda s: job_store.cancel_job(s, marks.bulk), cancelled_pages
        ),
        _measured(
            database, "delete", lambda s: job_store.delete_job(s, marks.failed), removed_pages
        ),
    ]


def _measured(
    database: Database,
    name: str,
    request: Callable[[Session], object],
    page: Callable[[Session], int] = lambda _session: 0,
) -> dict[str, Any]:
    """Run the request's transaction, then pages until one finds nothing."""
    taken: list[float] = []
    more = 1
    while more:
        started = time.perf_counter()
        with database.transaction() as session:
            more = page(session) if taken else request(session) is not more
        taken.append((time.perf_counter() - started) * 1e3)
    row = {
        "change": name,
        "answered_ms": round(taken[0], 1),
        "transactions": len(taken),
        "median_ms": round(sorted(taken)[len(taken) // 2], 1),
        "longest_ms": round(max(taken), 1),
        "all_s": round(sum(taken) / 1e3, 1),
        "too_slow": max(taken) > LIMIT_MS,
    }
    print(
        f"{name:<8} answered in {row['answered_ms']} ms; {row['transactions']} transactions, "
        f"median {row['median_ms']} ms, longest {row['longest_ms']} ms; {row['all_s']} s in all",
        flush=True,
    )
    return row
