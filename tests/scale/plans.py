"""Collects the plans of all statements of a session with EXPLAIN (ANALYZE)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from shared.database import Database
from shared.models import Base

BIG = ("jobs", "items", "webhook_deliveries", "idempotency_keys")
"""The tables that grow with the number of jobs."""


@dataclass(kw_only=True)
class Plan:
    """How the database executed one statement."""

    statement: str
    steps: list[str]
    """The plan's steps from the outermost inwards, such as `Index Scan ix_items_status`."""
    scans: list[str]
    """The big tables that it reads completely."""
    rows: int
    """Rows that it read from tables and indexes, including those that a filter dropped."""
    ms: float
    """Planning, execution and foreign-key triggers. 0 for SQLite."""


@dataclass(kw_only=True)
class Recorder:
    """Collects the plans of a database's statements, while `recording`."""

    database: Database
    plans: list[Plan] = field(default_factory=list)

    @contextmanager
    def recording(self) -> Iterator[list[Plan]]:
        """Explain each statement just before it is executed. The explanation runs the statement and
        rolls its changes back.
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
    """Rows that a node reads from a table or an index, over all loops."""
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
    """Whether a node reads a big table completely. A partial index may be read completely: it holds
    only the wanted rows.
    """
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
