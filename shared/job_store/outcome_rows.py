"""Writes the outcomes of many claimed items with one statement, fenced by owner and attempt."""

import json
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.conditions import is_value
from shared.jobs import ItemStatus
from shared.models import Item

ITEMS: sa.Table = Item.__table__  # type: ignore[assignment]

COLUMNS = (
    "status",
    "kind",
    "forwarded_to",
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
)
"""The columns that an outcome sets to given values. Two others may need the time of the record:
`not_before` and `finished_at`.
"""

NO_LEASE = {"lease_owner": None, "lease_expires_at": None, "published_at": None}


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """The new values of an item. Only the claim with this owner and attempt may write them."""

    item_id: uuid.UUID
    owner: str
    attempt: int
    values: Mapping[str, Any]
    """Of each of COLUMNS. A `kind` of None leaves it as it is."""
    ends: bool
    """The item has ended now."""
    due_now: bool = False
    """The item is due now."""
    not_before: datetime | None = None
    """When the item is due, if not now."""


class Outcomes:
    """Rows to write. They are made into a text before locks are taken, because others wait for
    those. No two rows have the same item, owner and attempt.
    """

    def __init__(self, rows: Iterable[OutcomeRow], *, postgres: bool) -> None:
        self._rows = list(rows)
        self._postgres = postgres
        self._texts = [_text(*each) for each in enumerate(self._rows)] if postgres else []

    def __getitem__(self, place: int) -> OutcomeRow:
        return self._rows[place]

    def replace(self, place: int, row: OutcomeRow) -> None:
        """Write another row at this place."""
        self._rows[place] = row
        if self._postgres:
            self._texts[place] = _text(place, row)

    def write(self, session: Session, moment: datetime) -> Collection[int]:
        """Write those rows whose item is running and claimed by this owner and attempt; returns
        their places. `moment`: now.

        On PostgreSQL it is one statement, whose rows are one JSON text, however many there are. It
        locks items in the order of their ids.
        """
        if not self._rows:
            return ()
        connection = session.connection()
        if self._postgres:
            given = {"rows": f"[{','.join(self._texts)}]", "moment": moment}
            return connection.execute(_UPDATE_MANY, given).scalars().all()
        return [  # in this process: a statement costs little
            place
            for place, row in enumerate(self._rows)
            if connection.execute(
                _UPDATE_ONE,
                {
                    "at": row.item_id,
                    "by": row.owner,
                    "try": row.attempt,
                    "moment": moment,
                    "ends": row.ends,
                    "due_now": row.due_now,
                    "not_before": row.not_before,
                    **row.values,
                },
            ).rowcount
        ]


def _text(place: int, row: OutcomeRow) -> str:
    return json.dumps(
        {
            "place": place,
            "item": str(row.item_id),
            "owner": row.owner,
            "attempt": row.attempt,
            "ends": row.ends,
            "due_now": row.due_now,
            "not_before": row.not_before,
            **row.values,
        },
        default=_iso,
    )


def _iso(value: object) -> str:
    """A time as JSON."""
    assert isinstance(value, datetime)
    return value.isoformat()


def _is_held(
    item: Any, owner: sa.ColumnElement[str], attempt: sa.ColumnElement[int]
) -> sa.ColumnElement[bool]:
    return sa.and_(
        ITEMS.c.id == item,
        is_value(Item.status, ItemStatus.RUNNING),  # a parameter: planned each time, for 0.4 ms
        ITEMS.c.lease_owner == owner,
        ITEMS.c.attempts == attempt,
    )


def _new(given: Any) -> dict[str, Any]:
    """The new values of an item's columns. `given`: by name."""
    moment = sa.bindparam("moment", type_=ITEMS.c.finished_at.type)
    return {
        **NO_LEASE,
        **{name: given[name] for name in COLUMNS},
        "kind": sa.func.coalesce(given["kind"], ITEMS.c.kind),
        "not_before": sa.case((given["due_now"], moment), else_=given["not_before"]),
        "finished_at": sa.case((given["ends"], moment)),
    }


def _update_many() -> sa.sql.dml.ReturningUpdate[Any]:
    listed = (
        sa.func.json_to_recordset(sa.cast(sa.bindparam("rows", type_=sa.Text()), sa.JSON()))
        .table_valued(
            sa.column("place", sa.Integer()),
            sa.column("item", sa.Uuid()),
            sa.column("owner", sa.Text()),
            sa.column("attempt", sa.Integer()),
            sa.column("ends", sa.Boolean()),
            sa.column("due_now", sa.Boolean()),
            sa.column("not_before", ITEMS.c.not_before.type),
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
    given = {
        name: sa.bindparam(name, type_=ITEMS.c[name].type) for name in (*COLUMNS, "not_before")
    }
    given |= {name: sa.bindparam(name, type_=sa.Boolean()) for name in ("ends", "due_now")}
    return (
        sa.update(ITEMS)
        .where(_is_held(sa.bindparam("at"), sa.bindparam("by"), sa.bindparam("try")))
        .values(_new(given))
    )


_UPDATE_MANY = _update_many()
_UPDATE_ONE = _update_one()
