"""A PostgreSQL connection with a time limit for every answer.

libpq limits only the time of connecting, and notices a machine that is gone. A frozen server, or a
proxy in between, keeps its connections open and never answers.
"""

import select
import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

RV = TypeVar("RV")


class BoundedConnection(psycopg.Connection[Any]):
    """A psycopg connection with a limit for every wait."""

    answer_timeout_s: float | None = None
    """None: wait forever."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server. After the limit it raises OperationalError and closes the
        connection, because a late answer would be taken for the answer to the next query.
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

    @property
    def has_unread_data(self) -> bool:
        """Whether the server has sent something, or closed the connection, while nothing was asked.
        It waits for nothing.
        """
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))
