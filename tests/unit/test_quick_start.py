"""A start does only what is needed: no libraries of other databases, no migration of tables that
are as they should be, networks side by side.
"""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from shared.database import Database
from shared.errors import WarmupError
from shared.settings import Settings
from shared.table_revision import is_current, newest_revision
from worker.inference import side_by_side

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


@pytest.mark.parametrize("breaks", ["", "open u2netp", "warm builtin"])
def test_networks_are_warmed_up_after_all_of_them_were_opened_or_all_are_closed(
    breaks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    class Loaded:
        def __init__(self, settings: Settings, *, warm_shapes: bool) -> None:
            self.name = settings.model
            assert not warm_shapes
            self._do("open")

        def _do(self, what: str) -> None:
            if f"{what} {self.name}" == breaks:
                raise WarmupError(breaks)
            done.append(what)

        def warm_up(self) -> None:
            self._do("warm")

        def close(self) -> None:
            self._do("close")

        def describe(self) -> dict[str, str]:
            return {}

    monkeypatch.setattr(side_by_side, "load_predictor", Loaded)
    monkeypatch.setattr(side_by_side, "Predictor", Loaded)
    settings = [Settings(model=name) for name in ("builtin", "u2netp")]
    if breaks:
        with pytest.raises(WarmupError, match=breaks):
            side_by_side.load_predictors(settings)
        assert done.count("close") == done.count("open")
    else:
        loaded = side_by_side.load_predictors(settings)
        assert [one.model for one in settings] == [getattr(one, "name", "") for one in loaded]
        assert done == ["open", "open", "warm", "warm"]
