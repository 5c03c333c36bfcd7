"""A connection to PostgreSQL that waits for no answer longer than it may.

libpq bounds connecting, and notices a machine that is gone; a server that is frozen, or a proxy in
between, keeps its connections open and never answers.
"""

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

RV = TypeVar("RV")


class BoundedConnection(psycopg.Connection[Any]):
    """psycopg's, with a limit for every wait on the server."""

    answer_timeout_s: float | None = None
    """None: it waits for ever."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Psycopg's own. Raises OperationalError after the limit, and closes the connection: an
        answer that comes later would be taken for that to the next question.
        """
        if timeout is not None or self.answer_timeout_s is None:
            return super().wait(gen, interval, timeout)
        deadline = time.monotonic() + self.answer_timeout_s
        try:
            return super().wait(gen, interval, self.answer_timeout_s)
        except psycopg.OperationalError as error:
            if time.monotonic() < deadline:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"no answer within {self.answer_timeout_s:g} s"
            ) from error
