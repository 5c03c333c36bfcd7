"""The search for images of a job by a part of their name, by review reason, or by unmet rules.

No index holds these, so the images are looked through in the order of their source: a few thousand
a statement, a bounded number a request. A caller goes on where the search stopped.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.review import review_filter
from shared.jobs import ItemStatus, Reason
from shared.models import Item

ROWS_AT_ONCE = 2_000
ROWS_OF_SEARCH = 20_000
"""Positions that one statement, and one search, looks at: 20,000 take about a tenth of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What images must have; None: anything."""

    text: str | None = None
    """Part of the name or of the custom id, in any case; or the whole id."""
    reason: Reason | None = None
    unmet_rules: bool = False
    """A file of the result does not meet a marketplace's rules."""
    status: ItemStatus | None = None
    review: str | None = None
    """A word of shared.job_store.review.review_filter."""
    custom_id: str | None = None


def search_items(
    session: Session, job_id: uuid.UUID, search: Search, *, after: int, limit: int
) -> tuple[Sequence[Item], int | None]:
    """Up to `limit` images behind position `after`, in the order of their source; and the position
    to go on behind, None: there are no more. A page may be empty although there are more.
    """
    last = session.scalar(sa.select(sa.func.max(Item.position)).where(Item.job_id == job_id)) or 0
    found: list[int] = []
    end = min(last, after + ROWS_OF_SEARCH)
    while after < end and len(found) < limit:
        stop = min(end, after + ROWS_AT_ONCE)
        matching = _matching(session, job_id, search, after, stop)
        found += matching[: limit - len(found)]
        after = found[-1] if len(found) == limit else stop
    items = session.scalars(
        sa.select(Item)
        .where(Item.job_id == job_id, Item.position.in_(found))
        .order_by(Item.position)
    ).all()
    return items, after if after < last else None


def _matching(
    session: Session, job_id: uuid.UUID, search: Search, after: int, stop: int
) -> list[int]:
    """The positions, above `after` and up to `stop`, whose images match."""
    statement = sa.select(Item.position, Item.name, Item.custom_id).where(
        Item.job_id == job_id, Item.position > after, Item.position <= stop
    )
    if search.status is not None:
        statement = statement.where(Item.status == search.status)
    if search.review is not None:
        statement = statement.where(*review_filter(search.review))
    if search.custom_id is not None:
        statement = statement.where(Item.custom_id == search.custom_id)
    if search.reason is not None:
        named = sa.cast(Item.review_reasons, sa.Text()).contains(f'"{search.reason.value}"')
        statement = statement.where(sa.and_(Item.needs_review), named)
    if search.unmet_rules:  # both databases write JSON with a blank behind the colon
        statement = statement.where(sa.cast(Item.outputs, sa.Text()).contains('"unmet": ["'))
    item_id = _id_in(search.text) if search.text is not None else None
    if item_id is not None:
        statement = statement.where(Item.id == item_id)
    rows = session.execute(statement.order_by(Item.position))
    if search.text is None or item_id is not None:
        return [row.position for row in rows]
    # In Python, because databases differ in what they take for the same letter.
    text = search.text.casefold()
    return [
        position
        for position, name, custom_id in rows.tuples()
        if text in name.casefold() or (custom_id is not None and text in custom_id.casefold())
    ]


def _id_in(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
