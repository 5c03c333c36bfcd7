"""Measures all queries: plans, rows and times."""

from typing import Any

from shared.database import Database
from tests.scale.explain import explain
from tests.scale.generate import Landmarks
from tests.scale.queries import QUERIES

TRIES = 3
"""The best of these counts: the first run reads data that is in no cache yet."""


def measure_queries(database: Database, marks: Landmarks) -> list[dict[str, Any]]:
    """Measure all queries. Prints each row at once."""
    rows = []
    for query in QUERIES:
        tries = [explain(database, query, marks) for _ in range(TRIES)]
        best = min(tries, key=lambda plans: sum(plan.ms for plan in plans))
        slowest = max(best, key=lambda plan: plan.ms)
        row: dict[str, Any] = {
            "query": query.name,
            "every": query.every,
            "ms": round(slowest.ms, 2),
            "rows": max(plan.rows for plan in best),
            "scans": [table for plan in best for table in plan.scans],
            "plan": ", ".join(step for step in slowest.steps if "Scan" in step),
            "too_slow": slowest.ms > query.limit_ms,
        }
        rows.append(row)
        mark = "reads all" if row["scans"] else "too slow" if row["too_slow"] else ""
        head = f"{query.every:<8}{query.name:<36}{row['ms']:>9.2f} ms {row['rows']:>9,} rows"
        print(f"{head}  {mark:<10}{row['plan'][:80]}", flush=True)
    return rows
