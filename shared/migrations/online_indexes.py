"""Creates and drops indexes while the service runs.

On PostgreSQL, CREATE INDEX CONCURRENTLY allows writes in the meantime. It takes minutes on tables
of millions of rows, can't be part of a transaction, and waits for every older transaction. Nothing
waits for it, so it may wait longer than other statements. A failed attempt leaves an invalid index;
the next attempt removes it.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

LOCK_TIMEOUT = "30min"


def create_index(
    name: str, table: str, columns: Sequence[str | sa.TextClause], *, where: str | None = None
) -> None:
    """Create an index, unless it exists."""
    predicate = None if where is None else sa.text(where)
    if op.get_bind().dialect.name != "postgresql":
        op.create_index(name, table, list(columns), sqlite_where=predicate)
        return
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        if _is_invalid(name):
            _drop(name)
        op.create_index(
            name,
            table,
            list(columns),
            postgresql_where=predicate,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.execute("RESET lock_timeout")


def drop_index(name: str, table: str) -> None:
    """Drop an index, if it exists."""
    if op.get_bind().dialect.name != "postgresql":
        op.drop_index(name, table, if_exists=True)
        return
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        _drop(name)
        op.execute("RESET lock_timeout")


def _drop(name: str) -> None:
    op.drop_index(name, postgresql_concurrently=True, if_exists=True)


def _is_invalid(name: str) -> bool:
    statement = sa.text(
        "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
    ).bindparams(name=name)
    return bool(op.get_bind().scalar(statement))
