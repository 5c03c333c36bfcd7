"""Jobs whose background work fails or must wait: each is put aside, and the others go on."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import MattingError, RemovalRefusedError
from shared.telemetry import get_logger

log = get_logger(__name__)

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 3_600.0


class PutAside:
    """The jobs of one task that failed lately, in this process. For one thread.

    The wait doubles with each failure of the same job.
    """

    def __init__(self, task: str) -> None:
        """`task` appears in the log."""
        self._task = task
        self._failures: dict[uuid.UUID, int] = {}
        self._until_s: dict[uuid.UUID, float] = {}

    def jobs(self) -> list[uuid.UUID]:
        """Those that are not due yet."""
        moment = time.monotonic()
        self._until_s = {one: until_s for one, until_s in self._until_s.items() if until_s > moment}
        return list(self._until_s)

    def wait(self, job_id: uuid.UUID, wait_s: float) -> None:
        """Put a job aside that can't be worked on now."""
        self._until_s[job_id] = time.monotonic() + wait_s

    @contextmanager
    def on_failure(self, job_id: uuid.UUID) -> Iterator[None]:
        """Work on a job. A bug, an unusable row, or an object that the storage keeps is logged and
        the job put aside. A part of the system that is away, which concerns all jobs, is raised.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, MattingError) and not isinstance(error, RemovalRefusedError):
                raise
            failures = self._failures.get(job_id, 0) + 1
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - 1, 20))
            self._failures[job_id] = failures
            self.wait(job_id, wait_s)
            log.exception(f"{self._task}-failed", job=str(job_id), again_in_s=wait_s)
        else:
            self._failures.pop(job_id, None)
            self._until_s.pop(job_id, None)
