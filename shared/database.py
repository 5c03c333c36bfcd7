"""The database: engine and sessions, opened and closed in one place; SQLite (WAL) or PostgreSQL."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from shared.bounded_connection import BoundedConnection
from shared.errors import DatabaseError

__all__ = ["Database", "Session", "now"]

LOCK_TIMEOUT_MS = 4_000
"""A statement that waits longer for a lock fails and is tried again, instead of piling up."""

IDLE_IN_TRANSACTION_MS = 5_000
"""A process that stops inside a transaction (frozen, cut off) loses it and its locks. Nothing here
waits for anything but the database while one is open.
"""

STATEMENT_TIMEOUT_MS = 12_000
"""None of ours takes a second. The server gives up first, then the client: it may be frozen."""

ANSWER_TIMEOUT_S = 15.0

POOL_TIMEOUT_S = 10
"""How long a thread waits for a connection while all are in use."""

KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq's, s (the last ms): a server whose machine is gone is noticed within half a minute."""

SQLITE_BUSY_S = 30
"""How long a writer waits for another one."""

MIGRATION_LOCK_ID = 0x6D617474
"""PostgreSQL advisory lock ('matt'): processes that start together migrate in turn."""


class Database:
    """One engine and its sessions. Thread-safe; `close` it last of all."""

    def __init__(self, url: str, *, process: str, pool_size: int = 8) -> None:
        """Nothing connects here. `process` names the connections in PostgreSQL's activity view."""
        self.url = sa.make_url(url)
        if self.is_sqlite:
            self.engine = _sqlite_engine(self.url)
        else:
            self.engine = sa.create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_timeout=POOL_TIMEOUT_S,
                pool_pre_ping=True,
                connect_args={
                    "application_name": f"matting-{process}",
                    "connect_timeout": 5,
                    "options": f"-c lock_timeout={LOCK_TIMEOUT_MS} "
                    f"-c statement_timeout={STATEMENT_TIMEOUT_MS} "
                    f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS}",
                    **KEEPALIVE,
                },
            )
            event.listen(self.engine, "do_connect", _connect)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One session, one transaction: committed at the end, rolled back on any exception.

        Raises DatabaseError when the server is away, a lock is not to be had or a deadlock was
        broken: the same transaction may succeed later.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise DatabaseError(f"The database did not answer: {_first_line(error)}") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise DatabaseError(f"The connection broke: {_first_line(error)}") from error
            raise

    def migrate(self) -> None:
        """Bring the tables to the newest revision; safe to call from several processes at once."""
        config = _alembic_config()
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        with self.engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK_ID)))
                _lift_timeouts(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        self.engine.dispose()  # of the connection that may take its time

    def revisions(self) -> tuple[str | None, str | None]:
        """The revision that the tables are at, and the newest one."""
        with self.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        return current, ScriptDirectory.from_config(_alembic_config()).get_current_head()

    def ping(self) -> None:
        """Raise DatabaseError unless the database answers."""
        with self.transaction() as session:
            session.execute(sa.select(1))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def now(session: Session) -> datetime:
    """The database's clock, aware UTC: leases must not depend on a worker's own."""
    if session.get_bind().dialect.name == "postgresql":
        value: datetime = session.scalars(sa.select(sa.func.clock_timestamp())).one()
        return value.astimezone(UTC)
    return datetime.now(UTC)


def _connect(_dialect: object, _record: object, args: Any, options: Any) -> BoundedConnection:
    connection = BoundedConnection.connect(*args, **options)
    connection.answer_timeout_s = ANSWER_TIMEOUT_S
    return connection


def _lift_timeouts(connection: sa.Connection) -> None:
    """A migration takes as long as it takes. The connection must not go back to the others."""
    connection.exec_driver_sql("SET statement_timeout = 0")
    raw = connection.connection.driver_connection
    assert isinstance(raw, BoundedConnection)
    raw.answer_timeout_s = None


def _sqlite_engine(url: sa.URL) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": SQLITE_BUSY_S})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        # The driver must not open transactions by itself: _on_begin does, and takes the write lock
        # at once, so that a transaction never has to be upgraded (and refused) half-way.
        connection.isolation_level = None
        cursor = connection.cursor()
        _switch_to_wal(cursor)
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _switch_to_wal(cursor: Any) -> None:
    """The mode stays with the file. While two processes switch a new one, SQLite tells the second
    at once that it is locked, whatever the busy timeout: so it is tried again here.
    """
    deadline = time.monotonic() + SQLITE_BUSY_S
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _first_line(error: Exception) -> str:
    """The driver's own sentence, without the statement and its parameters."""
    cause = error.__cause__ or error
    return str(cause).strip().split("\n")[0]
