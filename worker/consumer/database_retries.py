"""Transactions that are retried while the database is unavailable."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from shared.database import Database, Session
from shared.errors import DatabaseError
from shared.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

DATABASE_RETRY_LIMIT_S = 60
"""How long a finished batch retries the database before its results are dropped. The images are
then processed again.
"""


def with_database_retries(
    database: Database, work: Callable[[Session], T], on_failure: Callable[[], None] = lambda: None
) -> T:
    """Run a transaction; retry it for up to `DATABASE_RETRY_LIMIT_S` while the database is
    unavailable. Calls `on_failure` after each failed attempt. Raises DatabaseError.
    """
    deadline = time.monotonic() + DATABASE_RETRY_LIMIT_S
    attempt = 0
    while True:
        try:
            with database.transaction() as session:
                return work(session)
        except DatabaseError as error:
            on_failure()
            attempt += 1
            wait_s = min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1)  # noqa: S311 - jitter
            if time.monotonic() + wait_s > deadline:
                raise
            log.warning("database-unavailable-retrying", attempt=attempt, detail=error.detail)
            time.sleep(wait_s)
