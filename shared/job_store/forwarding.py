"""Images on the queue of a second model, and their way back when nobody serves it any more."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.job_store.conditions import is_value
from shared.job_store.locks import locked_items
from shared.jobs import ItemStatus
from shared.models import Item


def forwarded_models(session: Session) -> set[str]:
    """The second models on whose queues images wait."""
    found = session.scalars(sa.select(Item.forwarded_to).where(*_waits()).distinct())
    return {model for model in found if model is not None}


def recall_forwarded(session: Session, models: Collection[str], *, limit: int) -> int:
    """Let up to `limit` images that wait for these second models begin again with their first one,
    with all their attempts. Returns how many.
    """
    waiting = sa.select(Item.id).where(*_waits(), Item.forwarded_to.in_(models)).limit(limit)
    recalled = session.execute(
        sa.update(Item)
        .where(Item.id.in_(locked_items(Item.id.in_(waiting.scalar_subquery()), *_waits())))
        .values(forwarded_to=None, published_at=None, not_before=None, attempts=0)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(recalled, sa.CursorResult)  # as of every UPDATE
    return recalled.rowcount


def _waits() -> tuple[sa.ColumnElement[bool], ...]:
    """Only messages that were sent are looked at: an index leads to them, and others follow when
    there is room.
    """
    return (
        is_value(Item.status, ItemStatus.QUEUED),
        Item.published_at.is_not(None),
        Item.forwarded_to.is_not(None),
    )
