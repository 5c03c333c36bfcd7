"""Writes what a batch adds to its jobs and to the usage of their keys, with one statement."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.orm import Session

from shared.job_store.conditions import is_postgresql
from shared.job_store.usage import UsageAmount, add_usage, and_add, month_of
from shared.jobs import STAGES
from shared.models import Job, Usage

JOBS: sa.Table = Job.__table__  # type: ignore[assignment]

NUMBERS = (
    "queued",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "needs_review",
    "reused",
    "progress_told",
    "pixels",
    "input_bytes",
    "output_bytes",
    *(f"{stage}_ms" for stage in STAGES),
    "progressed_at",
)
"""The columns of a job that most batches change."""

OTHERS = frozenset(JOBS.c.keys()) - set(NUMBERS)


def write_numbers(
    session: Session, used: Mapping[uuid.UUID, UsageAmount], moment: datetime
) -> None:
    """Write the changes of the session's jobs, which are locked, and add to the usage of keys.

    On PostgreSQL it takes one statement if nothing but numbers changed. SQLAlchemy's own way takes
    three times as long, and other workers wait meanwhile.
    """
    jobs = _with_other_numbers(session) if is_postgresql(session) else None
    if jobs is None:
        session.flush()
        add_usage(session, used, moment)
    elif jobs or used:
        numbers = [
            {"id": str(job.id), **{name: getattr(job, name) for name in NUMBERS}} for job in jobs
        ]
        amounts = [
            {"api_key_id": str(api_key_id), "month": month_of(moment), **asdict(more)}
            for api_key_id, more in used.items()
        ]
        session.connection().exec_driver_sql(
            _numbers_and_usage(),
            {"jobs": json.dumps(numbers, default=datetime.isoformat), "used": json.dumps(amounts)},
        )
        for job in jobs:
            session.expunge(job)  # it is written; the commit need not look at it


def _with_other_numbers(session: Session) -> Sequence[Job] | None:
    """The changed jobs; None: something else was changed too."""
    changed = list(session.dirty)
    if session.new or session.deleted:
        return None
    for one in changed:
        if not isinstance(one, Job) or not sa.inspect(one).unmodified >= OTHERS:
            return None
    return changed


@cache
def _numbers_and_usage() -> str:
    """The SQL, built once: SQLAlchemy keeps no SQL of an INSERT that may update, and building it
    takes longer than to run it. The rows of usage are locked in the order of their keys.
    """
    jobs = _rows("jobs", JOBS, ("id", *NUMBERS))
    writing = (
        sa.update(JOBS)
        .where(JOBS.c.id == jobs.c.id)
        .values({name: jobs.c[name] for name in NUMBERS})
        .cte("numbered")
    )
    table: sa.Table = Usage.__table__  # type: ignore[assignment]
    columns = table.c.keys()
    used = _rows("used", table, columns)
    adding = postgresql.insert(table).from_select(
        columns, sa.select(*used.c).order_by(used.c.api_key_id)
    )
    statement = and_add(adding).add_cte(writing)
    return str(statement.compile(dialect=psycopg.dialect()))  # type: ignore[no-untyped-call]


def _rows(name: str, table: sa.Table, columns: Sequence[str]) -> sa.TableValuedAlias:
    """The rows of the JSON text in the parameter `name`."""
    text = sa.cast(sa.bindparam(name, type_=sa.Text()), sa.JSON())
    return (
        sa.func.json_to_recordset(text)
        .table_valued(*(sa.column(each, table.c[each].type) for each in columns), name=f"of_{name}")
        .render_derived(with_types=True)
    )
