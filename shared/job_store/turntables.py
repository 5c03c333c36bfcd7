"""Turntables: items that the service adds to a group, and that are made anew after a retry."""

import uuid
from collections.abc import Sequence
from pathlib import PurePosixPath

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.groups import (
    NEVER,
    TurntableFrame,
    TurntableWork,
    in_order_of_turn,
)
from shared.job_store.conditions import in_groups
from shared.job_store.photos_by_url import HAS_URLS
from shared.jobs import ItemKind, ItemStatus, Verdict
from shared.models import MARK_BEGINS, Item, Job, new_id
from shared.options import GroupBy, Options

TURNTABLE = "turntable"
"""The file name of a turntable, without extension; it lies in the folder of its group's name."""


def add_turntable(session: Session, job: Job, name: str, first_photo: str) -> None:
    """Add the turntable of the group `name`, which waits for its photos. The caller has locked the
    job. `first_photo`: the source of one of them.
    """
    last = session.scalar(sa.select(sa.func.max(Item.position)).where(Item.job_id == job.id)) or 0
    session.add(
        Item(
            id=new_id(),
            job_id=job.id,
            position=last + 1,
            name=f"{name}/{TURNTABLE}",
            source=f"{first_photo}{MARK_BEGINS}{TURNTABLE} {name}",
            options=Options.model_validate(job.options).of_turntable().model_dump(mode="json"),
            kind=ItemKind.TURNTABLE,
            group_name=name,
            not_before=NEVER,
            created_at=now(session),
        )
    )
    session.flush()
    job.total += 1
    job.queued += 1
    job.turntables_left += 1
    job.source = {**job.source, HAS_URLS: True}


def reopen_turntables(session: Session, job: Job, retried: Sequence[uuid.UUID]) -> None:
    """Let the turntables wait again whose group has an item among `retried`, which a retry has just
    queued; those that are done are made again. The caller has locked the job.
    """
    named = sa.select(Item.group_name).where(Item.id.in_(retried), Item.group_name.is_not(None))
    names = {name for name in session.scalars(named) if name is not None}
    if not names:
        return
    of_groups = sa.select(Item).where(
        *in_groups(job.id, names),
        Item.kind == ItemKind.TURNTABLE,
        Item.status.in_((ItemStatus.SUCCEEDED, ItemStatus.QUEUED)),
    )
    statement = of_groups.order_by(Item.id).with_for_update()
    for item in session.scalars(statement.execution_options(populate_existing=True)):
        if item.status is ItemStatus.SUCCEEDED:
            job.succeeded -= 1
            job.queued += 1
            job.needs_review -= item.needs_review
            job.accepted -= item.verdict is Verdict.ACCEPT
            job.rejected -= item.verdict is Verdict.REJECT
            job.output_bytes -= item.output_bytes or 0
            job.pixels -= (item.width or 0) * (item.height or 0)
            item.needs_review, item.review_reasons = False, None
            item.verdict = item.verdict_note = item.reviewed_at = None
            item.attempts, item.finished_at = 0, None
            job.turntables_left += 1
        elif item.id in retried:
            job.turntables_left += 1
        item.status, item.not_before, item.published_at = ItemStatus.QUEUED, NEVER, None
    session.flush()


def turntable_work(session: Session, job_id: uuid.UUID, group: str) -> TurntableWork:
    """The results that a group's turntable shows, in the order of the turn."""
    job = session.get_one(Job, job_id)
    statement = sa.select(
        Item.id, Item.name, Item.status, Item.result_key, Item.outputs, Item.options
    ).where(*in_groups(job_id, [group]), Item.kind == ItemKind.PHOTO)
    rows = session.execute(statement.order_by(Item.position)).all()
    if job.options.get("group_by") == GroupBy.FOLDER:
        rows = sorted(rows, key=lambda row: in_order_of_turn(row.name))
    done = [row for row in rows if row.status is ItemStatus.SUCCEEDED]
    return TurntableWork(
        group=group,
        frames=tuple(
            TurntableFrame(
                key=row.result_key,
                name=row.outputs[0]["name"]
                if row.outputs
                else str(PurePosixPath(row.name).with_suffix(PurePosixPath(row.result_key).suffix)),
                item_id=str(row.id),
            )
            for row in done
        ),
        missing=len(rows) - len(done),
    )
