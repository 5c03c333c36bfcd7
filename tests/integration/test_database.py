"""What the database does for a process that stops where it should not."""

import time

import pytest
import sqlalchemy as sa

from shared import database as module
from shared.database import Database
from shared.errors import DatabaseError


def test_who_stands_still_in_a_transaction_loses_its_locks(
    migrated_postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker does that is frozen with the job's row locked: the others must get on."""
    monkeypatch.setattr(module, "IDLE_IN_TRANSACTION_MS", 200)
    url = migrated_postgresql.url.render_as_string(hide_password=False)
    frozen = Database(url, process="frozen")
    lock = sa.text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
    try:
        with pytest.raises(DatabaseError):
            _stand_still(frozen, lock, migrated_postgresql)
        frozen.ping()
    finally:
        frozen.close()


def _stand_still(frozen: Database, lock: sa.TextClause, others: Database) -> None:
    with frozen.transaction() as held:
        held.execute(lock)
        started = time.monotonic()
        with others.transaction() as session:
            session.execute(lock)  # not to be had before the other's session has ended
        assert time.monotonic() - started < module.LOCK_TIMEOUT_MS / 1e3
        held.execute(sa.text("SELECT 1"))
