"""Waits for jobs on behalf of open requests: one query for all of them, however many wait."""

import asyncio
import uuid
from collections.abc import Collection

from fastapi.concurrency import run_in_threadpool

from shared import job_store
from shared.database import Database
from shared.errors import MattingError
from shared.telemetry import get_logger

log = get_logger(__name__)

LOOK_EVERY_S = 0.02
"""A short wait takes at most this much longer, half of it on average."""

PATIENT_AFTER_S = 2.0
LOOK_PATIENTLY_S = 0.1
"""If even the newest request has waited long, polling less often costs it little."""

LOOK_WHILE_AWAY_S = 1.0
"""Poll interval while the database is unavailable."""


class JobWaiter:
    """Belongs to one event loop. It polls only while a request waits, and occupies no thread
    between polls.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiters: dict[uuid.UUID, asyncio.Event] = {}
        self._youngest_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def until_ended(self, job_id: uuid.UUID, timeout_s: float) -> bool:
        """Whether the job ended within the time."""
        ended = self._waiters[job_id] = asyncio.Event()
        self._youngest_at = asyncio.get_running_loop().time()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(ended.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            self._waiters.pop(job_id, None)
        return True

    async def _look(self) -> None:
        while self._waiters:
            waited_s = asyncio.get_running_loop().time() - self._youngest_at
            pause_s = LOOK_EVERY_S if waited_s < PATIENT_AFTER_S else LOOK_PATIENTLY_S
            try:
                for job_id in await run_in_threadpool(self._ended, list(self._waiters)):
                    if waiter := self._waiters.get(job_id):
                        waiter.set()
            except MattingError as error:
                log.warning("job-poll-failed", code=error.code, detail=error.detail)
                pause_s = LOOK_WHILE_AWAY_S
            await asyncio.sleep(pause_s)

    def _ended(self, job_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
        with self._database.transaction() as session:
            return job_store.ended_jobs_among(session, job_ids)
