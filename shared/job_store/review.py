"""Verdicts of reviewers."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.job_store.locks import lock_jobs
from shared.jobs import Verdict
from shared.models import Item


def record_verdict(
    session: Session, item: Item, *, verdict: Verdict | None, note: str | None
) -> Item:
    """Store a verdict on a succeeded item, replacing an earlier one; None removes it."""
    job = lock_jobs(session, [item.job_id])[item.job_id]
    current = session.scalars(sa.select(Item).where(Item.id == item.id).with_for_update()).one()
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
