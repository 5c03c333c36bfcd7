"""Whether the tables of a SQLite file are those of this code, without SQLAlchemy and Alembic: their
imports take a second of CPU, and most starts find the tables as they left them.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

MIGRATIONS = Path(__file__).parent / "migrations" / "versions"


def newest_revision() -> str:
    """The revision of the last migration. The name of its file begins with it."""
    return max(path.name for path in MIGRATIONS.glob("[0-9]*.py")).partition("_")[0]


def is_current(file: Path) -> bool:
    """Whether the file exists and its tables have the newest revision. False says nothing more:
    `Database.migrate` finds out.
    """
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return found == [(newest_revision(),)]
