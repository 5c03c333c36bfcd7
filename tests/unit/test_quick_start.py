"""A start does only what is needed: no libraries of other databases, no migration of tables that
are as they should be, networks side by side.
"""

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from shared.database import Database
from shared.table_revision import is_current, newest_revision
from worker.inference.postprocess import Alphas
from worker.inference.session import Batch, Runs, SessionPool

PROGRAM = """
import gc, sys
import api.app
assert gc.isenabled(), "collections go on once the imports are over"
assert gc.get_freeze_count() > 50_000, "and leave alone what they loaded"
print(sorted({"psycopg", "alembic"} & set(sys.modules)))
"""


def test_an_api_with_sqlite_loads_neither_psycopg_nor_alembic(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


def _revision(file: Path, *found: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
        database.execute("DELETE FROM alembic_version")
        database.executemany("INSERT INTO alembic_version VALUES (?)", [(one,) for one in found])


def test_tables_are_current_only_at_the_revision_that_alembic_calls_the_newest(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a folder #1" / "matting.db"
    assert not is_current(file)
    assert not file.parent.exists()
    file.parent.mkdir()
    _revision(file)
    assert not is_current(file)
    database = Database(f"sqlite:///{tmp_path / 'other.db'}", process="tests")
    try:
        assert newest_revision() == database.revisions()[1]
    finally:
        database.close()
    _revision(file, newest_revision())
    assert is_current(file)
    for other in ("0001", "9999"):
        _revision(file, other)
        assert not is_current(file)


@pytest.mark.parametrize("content", [b"", b"no database " * 100])
def test_a_file_that_is_no_database_is_not_current(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "matting.db"
    file.write_bytes(content)
    assert not is_current(file)
    assert file.read_bytes() == content


class _Network:
    """Answers with zeros."""

    def run(self, batch: Batch) -> Alphas:
        return np.zeros((len(batch), 1, 1), np.float32)


def test_networks_of_two_models_are_opened_one_after_the_other() -> None:
    opening = threading.Lock()
    warming = threading.Barrier(3)

    def opened() -> _Network:
        assert opening.acquire(blocking=False), "Paddle loads two networks at once"
        time.sleep(0.02)  # so that another one would overlap
        opening.release()
        return _Network()

    def warm_up(_network: Runs) -> None:
        warming.wait(10)

    def load(count: int) -> SessionPool:
        return SessionPool(opened, count, warm_up)

    with ThreadPoolExecutor(2) as threads:
        pools = list(threads.map(load, [2, 1]))  # all three warm up at the same time
    for pool in pools:
        assert pool.submit(np.zeros((1, 3, 1, 1), np.float32)).result().shape == (1, 1, 1)
        pool.close()
