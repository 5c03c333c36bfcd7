"""Conditions that partial indexes are found by: their values stand in the statement's text.

A database uses a partial index only where the statement implies its predicate. SQLite looks at the
text alone, and PostgreSQL's plans for prepared statements do not know parameters. The predicates
(shared.models.jobs) and these conditions are written the same way.
"""

import json
from collections.abc import Iterable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.jobs import ENDED, JobStatus
from shared.models import Job
from shared.models.jobs import UPLOAD_PATTERN

T = TypeVar("T")

OPEN: tuple[JobStatus, ...] = (JobStatus.ACCEPTED, JobStatus.RUNNING)
"""Jobs that go on, in the order in which `ix_jobs_open` names them."""

UNENDED: tuple[JobStatus, ...] = (*OPEN, JobStatus.PAUSED)
"""The same for `ix_jobs_unended`."""

assert ENDED.isdisjoint(UNENDED)


def is_value(column: InstrumentedAttribute[T], value: T) -> sa.ColumnElement[bool]:
    """`column = 'value'`."""
    return column == sa.literal(value, column.type, literal_execute=True)


def is_one_of(column: InstrumentedAttribute[T], values: Iterable[T]) -> sa.ColumnElement[bool]:
    """`column IN ('value', …)`, in the order that is given."""
    given = sa.bindparam(
        None, tuple(values), type_=column.type, expanding=True, literal_execute=True
    )
    return column.in_(given)


def is_open() -> sa.ColumnElement[bool]:
    """Of a job: no end, and nobody holds it."""
    return is_one_of(Job.status, OPEN)


def is_unended() -> sa.ColumnElement[bool]:
    """Of a job: no end; it may be paused."""
    return is_one_of(Job.status, UNENDED)


def names_upload(
    text: sa.ColumnElement[str] | InstrumentedAttribute[str],
) -> sa.ColumnElement[bool]:
    """A text that names something which was uploaded here."""
    return text.like(sa.literal(UPLOAD_PATTERN, literal_execute=True))


def each_text(session: Session, values: Iterable[str]) -> sa.TableValuedAlias:
    """A table with a row for each text, in its column `value`: one parameter, however many."""
    listed = list(values)
    if session.get_bind().dialect.name == "postgresql":
        array = sa.bindparam(None, listed, type_=postgresql.ARRAY(sa.Text()))
        return sa.func.unnest(array).table_valued("value", name="given").render_derived()
    return sa.func.json_each(json.dumps(listed)).table_valued("value", name="given")
