"""The database: engine, sessions and migrations for SQLite (WAL) and PostgreSQL."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import DatabaseError, SetupError
from shared.settings import Settings

# psycopg and Alembic are imported where they are used. A process with SQLite needs no psycopg, and
# most processes migrate nothing.
if TYPE_CHECKING:
    from alembic.config import Config

    from shared.bounded_connection import BoundedConnection

__all__ = ["Database", "Session", "after_commit", "now"]

LOCK_TIMEOUT_MS = 4_000
"""A statement that waits longer for a lock fails, and its transaction is tried again."""

IDLE_IN_TRANSACTION_MS = 5_000
"""The server ends a transaction that is idle for this long, for example of a frozen process, and
releases its locks. Code inside a transaction waits only for the database.
"""

STATEMENT_TIMEOUT_MS = 12_000
"""No statement of this service takes a second. The server's limit comes before the client's, which
is needed for a frozen server.
"""

ANSWER_TIMEOUT_S = 15.0

IDLE_S = 1.0
"""A connection that was idle for longer is tried by a query before it is used. One that was used
later is not: if the server closed it, its socket says so.
"""

POOL_TIMEOUT_S = 10
"""How long a thread waits for a connection while all are in use."""

KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq's TCP keepalive settings, in s (the last in ms): a server that is gone is noticed within 30
s.
"""

READ_ONLY_TRANSACTION = "25006"
"""An error code of PostgreSQL."""

SQLITE_BUSY_S = 30
"""How long a writer waits for another writer."""

MIGRATION_LOCK_ID = 0x6D617474
"""PostgreSQL advisory lock ('matt'): processes that start at the same time migrate one after
another.
"""
MIGRATION_POLL_S = 0.1

MIGRATION_ATTEMPTS = 10
MIGRATION_PAUSE_S = 2.0
"""Wait between attempts, if a table could not be locked within the lock timeout."""


_WAITING = "after-commit"


def after_commit(session: Session, work: Callable[[], None]) -> None:
    """Call `work` when the transaction of this session is committed; never, if it is rolled back.
    `work` must not raise, nor use the session.
    """
    session.info.setdefault(_WAITING, []).append(work)


def _run_what_waits(session: Session) -> None:
    if session.in_nested_transaction():  # a savepoint
        return
    for work in session.info.pop(_WAITING, ()):
        work()


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Turn the driver's errors of a database that is away or too busy into DatabaseError."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise DatabaseError(f"The database did not answer: {_first_line(error)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseError(f"The connection can't be used: {_first_line(error)}") from error
        raise


class Database:
    """One engine and its sessions. Thread-safe. Close it after everything that uses it."""

    def __init__(self, url: str, *, process: str, pool_size: int = 8, pooled: bool = False) -> None:
        """Does not connect yet. `process` names the connections in PostgreSQL's
        pg_stat_activity. `pooled`: the URL is that of a pooler in transaction mode, so nothing may
        last longer than a transaction: no session options, no prepared statements.
        """
        self.url = sa.make_url(url)
        if self.is_sqlite:
            self.engine = _sqlite_engine(self.url)
        else:
            self.engine = sa.create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_timeout=POOL_TIMEOUT_S,
                connect_args={
                    "application_name": f"matting-{process}",
                    "connect_timeout": 5,
                    **({"prepare_threshold": None} if pooled else {"options": _session_limits()}),
                    **KEEPALIVE,
                },
            )
            event.listen(self.engine, "do_connect", _connect)
            event.listen(self.engine, "handle_error", _leave_read_only_server)
            event.listen(self.engine, "checkin", _note_use)
            event.listen(self.engine, "checkout", _check)
            if pooled:
                event.listen(self.engine, "begin", _limit_transaction)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        event.listen(self._sessions, "do_orm_execute", _read_locked_rows_again)
        event.listen(self._sessions, "after_commit", _run_what_waits)
        # A pooler's time limits last for a transaction only. SQLite has no network in between.
        self._queries = (
            self._sessions
            if pooled or self.is_sqlite
            else sessionmaker(
                self.engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False
            )
        )

    @classmethod
    def of(cls, settings: Settings, *, process: str, pool_size: int = 8) -> Self:
        """The database of these settings. Does not connect yet."""
        return cls(
            settings.database_url,
            process=process,
            pool_size=pool_size,
            pooled=settings.database_direct_url is not None,
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session with one transaction: committed at the end, rolled back on any exception.

        Raises DatabaseError when the server is unavailable, a lock is not granted in time or a
        deadlock was broken; the same transaction may succeed later.
        """
        with _driver_errors(), self._sessions.begin() as session:
            yield session

    @contextmanager
    def query(self) -> Iterator[Session]:
        """A session for one query that changes nothing. It costs one round trip: it needs no
        transaction of its own on PostgreSQL. Raises DatabaseError like `transaction`.
        """
        with _driver_errors(), self._queries.begin() as session:
            yield session

    @_driver_errors()
    def migrate(self) -> None:
        """Migrate the tables to the newest revision. Several processes may call it at once, and it
        may be called again after a failed attempt. Raises DatabaseError.
        """
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        if self.unapplied() is None:
            return  # this version was rolled back: it works with the newer tables
        if self.is_sqlite:
            # all in one transaction, because nobody else may write in the meantime
            with self.engine.begin() as connection:
                self._upgrade(connection)
            return
        from psycopg.errors import LockNotAvailable

        with self._migration_turn():
            for attempt in range(1, MIGRATION_ATTEMPTS + 1):
                try:
                    with self.engine.connect() as connection:
                        _lift_timeouts(connection)
                        connection.commit()  # each migration has its own transaction
                        self._upgrade(connection)
                        connection.commit()
                    break
                except OperationalError as error:
                    # Everybody else queues behind a statement that waits for a table lock. So it
                    # gives up soon and is tried again. Completed migrations stay.
                    if attempt == MIGRATION_ATTEMPTS or not isinstance(
                        error.orig, LockNotAvailable
                    ):
                        raise DatabaseError(f"Migration failed: {_first_line(error)}") from error
                    time.sleep(MIGRATION_PAUSE_S)
        self.engine.dispose()  # discards the connection without time limits

    def _upgrade(self, connection: sa.Connection) -> None:
        from alembic import command

        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    @contextmanager
    def _migration_turn(self) -> Iterator[None]:
        """Let processes that start together migrate one after another.

        The lock belongs to the connection, not to a transaction. It is polled instead of waited
        for, because CREATE INDEX CONCURRENTLY waits for every older transaction, including one that
        waits for this lock.
        """
        with self.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(MIGRATION_LOCK_ID))):
                time.sleep(MIGRATION_POLL_S)
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(MIGRATION_LOCK_ID)))

    @_driver_errors()
    def revisions(self) -> tuple[str | None, str | None]:
        """The revision of the tables, and the newest revision. Raises DatabaseError."""
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        with self.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        return current, ScriptDirectory.from_config(_alembic_config()).get_current_head()

    @_driver_errors()
    def unapplied(self) -> list[tuple[str, str]] | None:
        """The migrations that `migrate` would apply, oldest first: revision and title. None: the
        tables are newer than this code. Raises DatabaseError.
        """
        with self.engine.connect() as connection:
            return _unapplied(connection)

    def has_time_limits(self) -> bool:
        """Whether the server applies this module's time limits. A pooler may drop them."""
        if self.is_sqlite:
            return True
        with self.transaction() as session:
            limit = session.scalar(
                sa.text("SELECT setting FROM pg_settings WHERE name = 'lock_timeout'")
            )
        return bool(limit == str(LOCK_TIMEOUT_MS))

    def ping(self) -> None:
        """Raise DatabaseError if the database does not answer."""
        with self.transaction() as session:
            session.execute(sa.select(1))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _read_locked_rows_again(state: ORMExecuteState) -> None:
    """Replace the values of a row that the session has read before, when it locks the row. Another
    transaction may have changed them in between, and SQLAlchemy keeps what it knows.
    """
    if state.is_select and getattr(state.statement, "_for_update_arg", None) is not None:
        state.update_execution_options(populate_existing=True)


def now(session: Session) -> datetime:
    """The database's clock, aware UTC. Leases use it because the clocks of workers may differ."""
    if session.get_bind().dialect.name == "postgresql":
        value: datetime = session.scalars(sa.select(sa.func.clock_timestamp())).one()
        return value.astimezone(UTC)
    return datetime.now(UTC)


def _limits() -> dict[str, int]:
    return {
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
    }


def _session_limits() -> str:
    """The time limits as options of a session."""
    return " ".join(f"-c {name}={limit}" for name, limit in _limits().items())


def _limit_transaction(connection: sa.Connection) -> None:
    """Set the time limits for one transaction."""
    calls = ", ".join(f"set_config('{name}', '{limit}', true)" for name, limit in _limits().items())
    connection.exec_driver_sql(f"SELECT {calls}")


def _connect(_dialect: object, _record: object, args: Any, options: Any) -> "BoundedConnection":
    import psycopg

    from shared.bounded_connection import BoundedConnection

    try:
        connection = BoundedConnection.connect(*args, **options)
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" not in str(error):
            raise
        raise SetupError(
            "MATTING_DATABASE_URL is a pooler that takes no session options (PgBouncer). Set "
            "MATTING_DATABASE_DIRECT_URL to the database's own address; migrations use it"
        ) from error
    connection.answer_timeout_s = ANSWER_TIMEOUT_S
    return connection


def _leave_read_only_server(context: sa.engine.ExceptionContext) -> None:
    """A server that takes no writes has become a standby, or its disk is full. Its connections are
    closed, because after a failover the address leads to another server.
    """
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_TRANSACTION:
        context.is_disconnect = True


def _note_use(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _check(connection: "BoundedConnection", record: ConnectionPoolEntry, _fairy: object) -> None:
    """Let the pool replace a connection that the server has closed."""
    used_at = record.info.get("used_at")
    if used_at is None:  # it is new
        return
    from psycopg import Error

    try:
        if time.monotonic() - used_at > IDLE_S or connection.has_unread_data:
            connection.execute("SELECT 1")
            connection.rollback()
    except Error as error:
        raise InvalidatePoolError from error


def _lift_timeouts(connection: sa.Connection) -> None:
    """Remove the time limits of the connection, because a migration may take long. The connection
    must not return to the pool.
    """
    from shared.bounded_connection import BoundedConnection

    connection.exec_driver_sql("SET statement_timeout = 0")
    raw = connection.connection.driver_connection
    assert isinstance(raw, BoundedConnection)
    raw.answer_timeout_s = None


def _sqlite_engine(url: sa.URL) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": SQLITE_BUSY_S})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        # The driver must not open transactions: _on_begin does, and takes the write lock at once. A
        # transaction that starts by reading could not always be upgraded to a writing one.
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
    """Switch the file to WAL mode, which is kept in the file. While another process switches,
    SQLite reports a lock at once and ignores the busy timeout, so this loop tries again.
    """
    deadline = time.monotonic() + SQLITE_BUSY_S
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _unapplied(connection: sa.Connection) -> list[tuple[str, str]] | None:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    current = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(_alembic_config())
    known = [(one.revision, (one.doc or "").split("\n")[0]) for one in scripts.walk_revisions()]
    revisions = [revision for revision, _ in known]
    if current is None:
        return known[::-1]
    return known[: revisions.index(current)][::-1] if current in revisions else None


def _alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _first_line(error: Exception) -> str:
    """The first line of the driver's message, without the statement and its parameters."""
    cause = error.__cause__ or error
    return str(cause).strip().split("\n")[0]
