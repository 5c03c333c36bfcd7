"""What the database does for a statement: EXPLAIN (ANALYZE) of all that a session executes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from shared.database import Database
from shared.models import Base

BIG = ("jobs", "items", "webhook_deliveries", "idempotency_keys")
"""The tables that grow with the work."""


@dataclass(kw_only=True)
class Plan:
    """How one statement was carried out."""

    statement: str
    steps: list[str]
    """Of the plan, from the outside in, as `Index Scan ix_items_status`."""
    scans: list[str]
    """The big tables that it reads from end to end."""
    rows: int
    """Rows that it looked at in tables and indexes, those that a filter dropped among them."""
    ms: float
    """Planning, execution and the triggers of foreign keys; 0 for SQLite."""


@dataclass(kw_only=True)
class Recorder:
    """Collects the plans of a database's statements, while `recording`."""

    database: Database
    plans: list[Plan] = field(default_factory=list)

    @contextmanager
    def recording(self) -> Iterator[list[Plan]]:
        """Explain each statement just before it is executed, in the state that it meets. What a
        change does is taken back after the explanation.
        """
        self.plans = []
        engine = self.database.engine
        sa.event.listen(engine, "before_cursor_execute", self._before)
        try:
            yield self.plans
        finally:
            sa.event.remove(engine, "before_cursor_execute", self._before)

    def _before(
        self,
        connection: sa.Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        head = statement.lstrip().split(None, 1)[0].upper()
        if head not in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            return
        explain = _on_sqlite if self.database.is_sqlite else _on_postgresql
        own = connection.connection.driver_connection
        if executemany or context.execute_style.name.startswith("INSERTMANY"):
            parameters = parameters[0] if isinstance(parameters, list) else parameters
        self.plans.append(explain(own, statement, parameters))


def _on_postgresql(connection: Any, statement: str, parameters: Any) -> Plan:
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT explained")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        (found,) = cursor.fetchone()
        cursor.execute("ROLLBACK TO SAVEPOINT explained")
    (answer,) = json.loads(found) if isinstance(found, str) else found
    nodes = list(_nodes(answer["Plan"]))
    triggers = sum(trigger["Time"] for trigger in answer.get("Triggers", []))
    return Plan(
        statement=statement,
        steps=[_step(node) for node in nodes],
        scans=[node["Relation Name"] for node in nodes if _reads_all(node)],
        rows=int(sum(_rows(node) for node in nodes)),
        ms=answer["Planning Time"] + max(answer["Execution Time"], triggers),
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _step(node: dict[str, Any]) -> str:
    what = node.get("Index Name") or node.get("Relation Name") or ""
    return f"{node['Node Type']} {what}".strip()


def _reads_all(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Seq Scan" and node.get("Relation Name") in BIG


def _rows(node: dict[str, Any]) -> float:
    """Of a node that reads a table or an index, in all its loops."""
    if "Scan" not in node["Node Type"] or node["Node Type"] in ("Subquery Scan", "CTE Scan"):
        return 0
    dropped = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    own = node["Actual Rows"] + sum(node.get(name, 0) for name in dropped)
    return float(own * node["Actual Loops"])


def _on_sqlite(connection: Any, statement: str, parameters: Any) -> Plan:
    cursor = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    steps = [row[3] for row in cursor.fetchall()]
    return Plan(
        statement=statement,
        steps=steps,
        scans=[table for step in steps for table in BIG if _scans(step, table)],
        rows=0,
        ms=0.0,
    )


def _scans(step: str, table: str) -> bool:
    """A partial index may be read from end to end: it holds what is asked for and nothing else."""
    words = step.split()
    if words[:2] != ["SCAN", table]:
        return False
    return not any(index.name in words for index in PARTIAL)


PARTIAL = [
    index
    for table in Base.metadata.tables.values()
    for index in table.indexes
    if index.dialect_options["sqlite"]["where"] is not None
]
