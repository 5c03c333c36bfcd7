"""Writes the outcomes of many claimed items with one statement, fenced by owner and attempt."""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.conditions import is_postgresql
from shared.jobs import ItemStatus
from shared.models import Item

ITEMS: sa.Table = Item.__table__  # type: ignore[assignment]

COLUMNS = (
    "status",
    "kind",
    "forwarded_to",
    "not_before",
    "measured",
    "clip",
    "result_key",
    "error_code",
    "error_detail",
    "width",
    "height",
    "input_bytes",
    "output_bytes",
    "result_crc32",
    "outputs",
    "needs_review",
    "review_reasons",
    "matte_model",
    "fingerprint",
    "reused",
    "timings_ms",
    "finished_at",
)
"""The columns that an outcome sets."""

NO_LEASE = {"lease_owner": None, "lease_expires_at": None, "published_at": None}


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """The new values of an item. Only the claim with this owner and attempt may write them."""

    item_id: uuid.UUID
    owner: str
    attempt: int
    values: Mapping[str, Any]
    """Of each of COLUMNS. A `kind` of None leaves it as it is."""


def write_outcomes(session: Session, rows: Sequence[OutcomeRow]) -> Collection[int]:
    """Write those rows whose item is running and claimed by this owner and attempt; returns their
    places in `rows`. No two rows have the same item, owner and attempt.

    On PostgreSQL it is one statement, whose only parameter is a JSON text, however many rows there
    are. It locks items in the order of their ids.
    """
    if not rows:
        return ()
    connection = session.connection()
    if not is_postgresql(session):  # in this process: a statement costs little
        return [
            place
            for place, row in enumerate(rows)
            if connection.execute(
                _UPDATE_ONE,
                {"at": row.item_id, "by": row.owner, "try": row.attempt, **row.values},
            ).rowcount
        ]
    text = json.dumps(
        [
            {
                "place": place,
                "item": str(row.item_id),
                "owner": row.owner,
                "attempt": row.attempt,
                **row.values,
            }
            for place, row in enumerate(rows)
        ],
        default=_iso,
    )
    return connection.execute(_UPDATE_MANY, {"rows": text}).scalars().all()


def _iso(value: object) -> str:
    """A time as JSON."""
    assert isinstance(value, datetime)
    return value.isoformat()


def _is_held(
    item: Any, owner: sa.ColumnElement[str], attempt: sa.ColumnElement[int]
) -> sa.ColumnElement[bool]:
    return sa.and_(
        ITEMS.c.id == item,
        ITEMS.c.status == ItemStatus.RUNNING,
        ITEMS.c.lease_owner == owner,
        ITEMS.c.attempts == attempt,
    )


def _new(given: Any) -> dict[str, Any]:
    """The new values of an item's columns. `given`: by name."""
    return {
        **NO_LEASE,
        **{name: given[name] for name in COLUMNS},
        "kind": sa.func.coalesce(given["kind"], ITEMS.c.kind),
    }


def _update_many() -> sa.sql.dml.ReturningUpdate[Any]:
    listed = (
        sa.func.json_to_recordset(sa.cast(sa.bindparam("rows", type_=sa.Text()), sa.JSON()))
        .table_valued(
            sa.column("place", sa.Integer()),
            sa.column("item", sa.Uuid()),
            sa.column("owner", sa.Text()),
            sa.column("attempt", sa.Integer()),
            *(sa.column(name, ITEMS.c[name].type) for name in COLUMNS),
            name="listed",
        )
        .render_derived(with_types=True)
    )
    given = sa.select(listed).cte("given")
    held = (
        sa.select(ITEMS.c.id.label("held_id"), given.c.place.label("held_place"))
        .where(_is_held(given.c.item, given.c.owner, given.c.attempt))
        .order_by(ITEMS.c.id)
        .with_for_update(of=ITEMS)
        .cte("held")
    )
    return (
        sa.update(ITEMS)
        .where(ITEMS.c.id == held.c.held_id, given.c.place == held.c.held_place)
        .values(_new(given.c))
        .returning(given.c.place)
    )


def _update_one() -> sa.Update:
    return (
        sa.update(ITEMS)
        .where(_is_held(sa.bindparam("at"), sa.bindparam("by"), sa.bindparam("try")))
        .values(_new({name: sa.bindparam(name, type_=ITEMS.c[name].type) for name in COLUMNS}))
    )


_UPDATE_MANY = _update_many()
_UPDATE_ONE = _update_one()
