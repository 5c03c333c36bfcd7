"""Measures changes of very large jobs while workers process batches of the same jobs: the longest
transaction, and the whole change.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from api.background.sweeper import PAGE_ROWS
from shared import job_store
from shared.database import Database, Session
from shared.job_store import Settlement
from shared.jobs import ItemStatus
from shared.models import Item
from tests.scale.generate import Landmarks

LIMIT_MS = 200.0
"""Limit for one transaction."""

BATCH_IMAGES = 24
BATCH_S = 0.05
"""Pause between two batches."""


def measure_changes(database: Database, marks: Landmarks) -> list[dict[str, Any]]:
    """Resume, retry, cancel and delete a job. Prints each result at once."""

    def pages(session: Session) -> int:
        return job_store.continue_change(session, marks.failed)

    def cancelled_pages(session: Session) -> int:
        return job_store.continue_change(session, marks.bulk)

    removed: list[int] = [0]

    def removed_pages(session: Session) -> int:
        page = job_store.remove_items(session, marks.failed, limit=PAGE_ROWS, after=removed[-1])
        removed[:] = page or removed
        return len(page)

    with database.transaction() as session:
        job_store.pause_job(session, marks.bulk)
    with _Batches(database, [marks.bulk, marks.failed]) as batches:
        rows = [
            _measured(database, "resume", lambda s: job_store.resume_job(s, marks.bulk)),
            _measured(database, "retry", lambda s: job_store.retry_failed(s, marks.failed), pages),
            _measured(
                database, "cancel", lambda s: job_store.cancel_job(s, marks.bulk), cancelled_pages
            ),
            _measured(
                database, "delete", lambda s: job_store.delete_job(s, marks.failed), removed_pages
            ),
        ]
    return [*rows, _told("batches", batches.taken_ms)]


class _Batches:
    """A worker's transactions, again and again within a `with` block: claim a batch, record it."""

    def __init__(self, database: Database, job_ids: Sequence[uuid.UUID]) -> None:
        self.taken_ms: list[float] = []
        """The duration of each transaction, with its wait for the job's row."""
        self._database = database
        self._job_ids = job_ids
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for job_id in self._job_ids:
                self._process(job_id)
                self._stopping.wait(BATCH_S)

    def _process(self, job_id: uuid.UUID) -> None:
        waiting = sa.select(Item.id).where(Item.job_id == job_id, Item.status == ItemStatus.QUEUED)
        with self._database.transaction() as session:
            some = waiting.order_by(Item.position.desc()).limit(BATCH_IMAGES)
            ids = list(session.scalars(some))
        started = time.perf_counter()
        with self._database.transaction() as session:
            held = job_store.claim_many(session, ids, job_ids=[job_id], owner="w", lease_s=20)
        claims = held.claims()
        self.taken_ms.append((time.perf_counter() - started) * 1e3)
        done = [Settlement(claim=claim, result_key="k", fingerprint="0" * 64) for claim in claims]
        started = time.perf_counter()
        with self._database.transaction() as session:
            job_store.finish_many(session, done)
        self.taken_ms.append((time.perf_counter() - started) * 1e3)


def _measured(
    database: Database,
    name: str,
    request: Callable[[Session], object],
    page: Callable[[Session], int] = lambda _session: 0,
) -> dict[str, Any]:
    """Run the request's transaction, then pages until one finds nothing. After each page comes a
    transaction that changes one row of another table: what it takes is this machine's share.
    """
    taken: list[float] = []
    single: list[float] = []
    more = 1
    while more:
        started = time.perf_counter()
        with database.transaction() as session:
            more = page(session) if taken else request(session) is not more
        taken.append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
        with database.transaction() as session:
            job_store.beat(session, "worker-1")
        single.append((time.perf_counter() - started) * 1e3)
    row = _told(name, taken)
    _told("  one row", single)
    return row


def _told(name: str, taken_ms: Sequence[float]) -> dict[str, Any]:
    """Print and return the row of a change."""
    row = {
        "change": name,
        "answered_ms": round(taken_ms[0], 1),
        "transactions": len(taken_ms),
        "median_ms": round(sorted(taken_ms)[len(taken_ms) // 2], 1),
        "p99_ms": round(sorted(taken_ms)[len(taken_ms) * 99 // 100], 1),
        "longest_ms": round(max(taken_ms), 1),
        "all_s": round(sum(taken_ms) / 1e3, 1),
        "too_slow": max(taken_ms) > LIMIT_MS,
    }
    print(
        f"{name:<9} answered in {row['answered_ms']} ms; {row['transactions']} transactions, "
        f"median {row['median_ms']} ms, 99 % {row['p99_ms']} ms, longest {row['longest_ms']} ms; "
        f"{row['all_s']} s in all",
        flush=True,
    )
    return row
