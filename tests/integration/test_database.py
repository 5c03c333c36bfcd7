"""Tables, transactions and migrations, and the behaviour when a process hangs or the database is
away.
"""

import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from shared import database as module
from shared import job_store
from shared.bounded_connection import BoundedConnection
from shared.database import Database, Session, after_commit
from shared.errors import DatabaseError
from shared.models import Base
from tests.integration.stored_jobs import new_job, photos, read

WHICH = sa.text("SELECT pg_backend_pid()")


@pytest.fixture
def one_connection(migrated_postgresql: Database) -> Iterator[Database]:
    """The same database by a single connection of its own."""
    url = migrated_postgresql.url.render_as_string(hide_password=False)
    database = Database(url, process="tests", pool_size=1)
    yield database
    database.close()


def test_a_process_that_hangs_in_a_transaction_loses_its_locks(
    migrated_postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen worker holds the job's row lock. The others must be able to continue."""
    monkeypatch.setattr(module, "IDLE_IN_TRANSACTION_MS", 200)
    url = migrated_postgresql.url.render_as_string(hide_password=False)
    frozen = Database(url, process="frozen")
    lock = sa.text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
    try:
        with pytest.raises(DatabaseError), frozen.transaction() as held:
            others_got_it = _lock_in_both(held, lock, migrated_postgresql)
        assert others_got_it
        frozen.ping()
    finally:
        frozen.close()


def test_connections_to_a_server_that_takes_no_writes_are_left(one_connection: Database) -> None:
    """After a failover the old server is a standby, and the address leads to the new one."""
    with one_connection.transaction() as session:
        before = session.scalar(WHICH)
    with pytest.raises(DatabaseError), one_connection.transaction() as session:
        _write_as_on_a_standby(session)
    with one_connection.transaction() as session:
        assert session.scalar(WHICH) != before


def _write_as_on_a_standby(session: Session) -> None:
    session.execute(sa.text("SET TRANSACTION READ ONLY"))
    session.execute(sa.text("DELETE FROM jobs WHERE false"))


def _lock_in_both(held: Session, lock: sa.TextClause, others: Database) -> bool:
    """Lock the row in `held`, then in another session. The second lock works only after the server
    has ended the first session.
    """
    held.execute(lock)
    with others.transaction() as session:
        session.execute(lock)
    return True


@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based")
def test_migrations_create_exactly_the_tables_of_the_models(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_two_processes_may_migrate_at_once(database_url: str) -> None:
    databases = [Database(database_url, process="tests") for _ in range(2)]
    threads = [threading.Thread(target=one.migrate) for one in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert all(now == newest for now, newest in (one.revisions() for one in databases))
    for one in databases:
        one.close()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_waits_for_the_commit_is_called_once_and_never_after_a_rollback(
    database: Database,
) -> None:
    called: list[str] = []
    with database.transaction() as session:
        after_commit(session, lambda: called.append("committed"))
        with session.begin_nested():
            session.execute(sa.text("SELECT 1"))
        assert called == [], "a savepoint is no commit"
    assert called == ["committed"]
    with pytest.raises(DatabaseError), database.transaction() as session:
        _fail_with(session, lambda: called.append("rolled back"))
    with database.transaction() as session:
        session.execute(sa.text("SELECT 1"))
    assert called == ["committed"]


def _fail_with(session: Session, work: Callable[[], None]) -> None:
    after_commit(session, work)
    session.execute(sa.text("SELECT no_such_column"))


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    job_id = new_job(database, 2)

    def add_and_fail() -> None:
        with database.transaction() as session:
            job_store.add_items(session, job_id, photos(range(10, 20)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    assert read(database, job_id).total == 2


def test_a_database_that_is_away_is_a_database_error() -> None:
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/none", process="tests")
    with pytest.raises(DatabaseError):
        away.ping()
    away.close()


def test_a_connection_that_the_server_closed_is_replaced_before_it_is_used(
    one_connection: Database, migrated_postgresql: Database
) -> None:
    """It was used a moment ago, so no query tries it: its socket says so."""
    with one_connection.transaction() as session:
        first = session.scalar(WHICH)
    _end_session(migrated_postgresql, first)
    with one_connection.query() as session:
        assert session.scalar(WHICH) != first


def test_a_connection_that_was_idle_is_tried_before_it_is_used(
    one_connection: Database, migrated_postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network may lose it without a word."""
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    monkeypatch.setattr(BoundedConnection, "has_unread_data", False)
    with one_connection.transaction() as session:
        first = session.scalar(WHICH)
    with one_connection.transaction() as session:
        assert session.scalar(WHICH) == first
    _end_session(migrated_postgresql, first)
    with one_connection.transaction() as session:
        assert session.scalar(WHICH) != first


def _end_session(others: Database, which: int) -> None:
    with others.transaction() as session:
        session.execute(sa.select(sa.func.pg_terminate_backend(which, 5_000)))
