"""Which version of its result an item shows: the counters of its job follow."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.jobs import ItemStatus, JobStatus, MadeBy, Reason, Verdict
from shared.models import Item, Job

RESULT_COLUMNS = (
    "result_key",
    "outputs",
    "width",
    "height",
    "input_bytes",
    "output_bytes",
    "result_crc32",
    "needs_review",
    "review_reasons",
    "matte_model",
    "fingerprint",
    "reused",
    "clip",
    "timings_ms",
    "finished_at",
)
"""The columns of an item that belong to one version of its result."""


def show_new_version(session: Session, made: Job) -> None:
    """Show the version of a job that has just ended, or note why it failed. The caller has locked
    both jobs. Nothing happens if the item's job was deleted, or another version was asked for.
    """
    origin = session.get(Job, made.of_job_id, with_for_update={"key_share": True})
    if origin is None or origin.deleted_at is not None:
        return
    item = session.get_one(Item, made.of_item_id, with_for_update=True)
    if item.redo is None or item.redo["number"] != made.source["number"]:
        return
    result = session.scalars(
        sa.select(Item).where(Item.job_id == made.id).execution_options(populate_existing=True)
    ).one()
    if result.status is ItemStatus.SUCCEEDED:
        was_rejected = item.verdict is Verdict.REJECT
        show(origin, item, made, result)
        if was_rejected and made.source["made_by"] == MadeBy.NETWORK:
            _ask_for_review(origin, item)
    else:
        code = result.error_code or JobStatus.CANCELLED.value
        item.redo = {
            **item.redo,
            "status": ItemStatus.FAILED.value,
            "code": code,
            "detail": result.error_detail or "",
        }
    session.flush()


def show(origin: Job, item: Item, made: Job, result: Item) -> None:
    """Let a locked item show the result of a version. The reviewer's verdict is about another
    picture, so it is removed.
    """
    origin.needs_review += result.needs_review - item.needs_review
    origin.reused += result.reused - item.reused
    origin.output_bytes += (result.output_bytes or 0) - (item.output_bytes or 0)
    origin.accepted -= item.verdict is Verdict.ACCEPT
    origin.rejected -= item.verdict is Verdict.REJECT
    item.verdict = item.verdict_note = item.reviewed_at = None
    for column in RESULT_COLUMNS:
        value: Any = getattr(result, column)
        setattr(item, column, value)
    item.options = made.options
    item.version = made.source["number"]
    item.redo = None


def _ask_for_review(origin: Job, item: Item) -> None:
    """Mark a result that replaces a rejected one: whoever rejected that wants to see this."""
    origin.needs_review += not item.needs_review
    item.needs_review = True
    item.review_reasons = [*(item.review_reasons or []), Reason.REDONE.value]
