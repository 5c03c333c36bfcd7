"""Verdicts of reviewers."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import ItemNotFoundError, ResultNotReadyError
from shared.job_store.locks import lock_jobs
from shared.jobs import ItemStatus, Verdict
from shared.models import Item


def record_verdict(
    session: Session, item: Item, *, verdict: Verdict | None, note: str | None
) -> Item:
    """Store a verdict on a succeeded item, replacing an earlier one; None removes it.

    Raises ItemNotFoundError if its job was deleted in the meantime, ResultNotReadyError.
    """
    job = lock_jobs(session, [item.job_id]).get(item.job_id)
    current = session.get(Item, item.id, with_for_update=True)
    if job is None or job.deleted_at is not None or current is None:
        raise ItemNotFoundError(f"There is no item {item.id}")
    if current.status is not ItemStatus.SUCCEEDED:
        raise ResultNotReadyError(f"The item is {current.status}")
    for said, step in ((current.verdict, -1), (verdict, 1)):
        if said == Verdict.ACCEPT:
            job.accepted += step
        elif said == Verdict.REJECT:
            job.rejected += step
    current.verdict, current.verdict_note = verdict, note if verdict else None
    current.reviewed_at = now(session) if verdict else None
    session.flush()
    return current


def review_filter(which: str) -> list[sa.ColumnElement[bool]]:
    """The condition for `flagged`, `pending` (flagged, without a verdict), `accepted` or
    `rejected`.
    """
    conditions: dict[str, list[sa.ColumnElement[bool]]] = {
        "flagged": [sa.and_(Item.needs_review)],
        "pending": [sa.and_(Item.needs_review), Item.verdict.is_(None)],
        "accepted": [Item.verdict == Verdict.ACCEPT],
        "rejected": [Item.verdict == Verdict.REJECT],
    }
    return conditions[which]
