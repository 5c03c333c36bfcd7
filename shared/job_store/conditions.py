"""Conditions whose values are part of the statement's text, so that partial indexes match.

A database uses a partial index only if the statement implies its predicate. SQLite compares the
text only, and PostgreSQL's plans for prepared statements do not know the parameters. So the
predicates (shared.models.jobs) and these conditions are written identically.
"""

import json
import uuid
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.jobs import ENDED, JobStatus
from shared.models import Item, Job
from shared.models.jobs import UPLOAD_PATTERN

T = TypeVar("T")

OPEN: tuple[JobStatus, ...] = (JobStatus.ACCEPTED, JobStatus.RUNNING)
"""Statuses of jobs that are processed, in the order used by `ix_jobs_open`."""

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


def is_postgresql(session: Session) -> bool:
    """Whether the database is PostgreSQL; the other one is SQLite."""
    return session.get_bind().dialect.name == "postgresql"


def is_among(
    column: InstrumentedAttribute[uuid.UUID] | InstrumentedAttribute[uuid.UUID | None],
    name: str,
    *,
    postgres: bool,
) -> sa.ColumnElement[bool]:
    """The id is one of those that the parameter `name` lists. On PostgreSQL the statement's text is
    the same for any number of ids, so it stays prepared.
    """
    if postgres:
        return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(sa.Uuid())))
    return column.in_(sa.bindparam(name, expanding=True))


def statement_time(*, postgres: bool) -> sa.ColumnElement[datetime]:
    """The database's clock when the statement began, without a query of its own: the same for all
    rows. On SQLite it is the parameter `moment`.
    """
    of_time = Job.created_at.type
    if postgres:
        return sa.func.statement_timestamp(type_=of_time)
    return sa.bindparam("moment", type_=of_time)


def is_open() -> sa.ColumnElement[bool]:
    """The job has not ended and is not paused."""
    return is_one_of(Job.status, OPEN)


def is_unended() -> sa.ColumnElement[bool]:
    """The job has not ended; it may be paused."""
    return is_one_of(Job.status, UNENDED)


def in_turn_of_keys(*which: sa.ColumnElement[bool], limit: int) -> sa.Select[tuple[uuid.UUID]]:
    """The ids of the first jobs that match: the oldest one of each key, then the second ones. So a
    key with very many jobs holds up no other.
    """
    place = sa.func.row_number().over(partition_by=Job.api_key_id, order_by=Job.id)
    found = sa.select(Job.id, place.label("place")).where(*which).subquery()
    return sa.select(found.c.id).order_by(found.c.place, found.c.id).limit(limit)


def names_upload(
    text: sa.ColumnElement[str] | InstrumentedAttribute[str],
) -> sa.ColumnElement[bool]:
    """The text contains the URL of an upload to this service."""
    return text.like(sa.literal(UPLOAD_PATTERN, literal_execute=True))


def each_text(session: Session, values: Iterable[str]) -> sa.TableValuedAlias:
    """A table with one row per text, in its column `value`. It needs one parameter, whatever its
    length.
    """
    listed = list(values)
    if session.get_bind().dialect.name == "postgresql":
        array = sa.bindparam(None, listed, type_=postgresql.ARRAY(sa.Text()))
        return sa.func.unnest(array).table_valued("value", name="given").render_derived()
    return sa.func.json_each(json.dumps(listed)).table_valued("value", name="given")


def in_groups(job_id: uuid.UUID, names: Collection[str]) -> tuple[sa.ColumnElement[bool], ...]:
    """The items of these groups of a job."""
    return Item.job_id == job_id, Item.group_name.is_not(None), Item.group_name.in_(names)
