"""Earlier results that can be reused: the same photo with the same options, for the same key."""

import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from shared.earlier_result import EarlierResult
from shared.job_store.conditions import each_text, is_value
from shared.jobs import ItemStatus
from shared.models import Item, Job


def find_earlier_results(
    session: Session, wanted: Sequence[tuple[uuid.UUID, str]]
) -> dict[tuple[uuid.UUID, str], EarlierResult]:
    """The newest result of each (key id, fingerprint), of that key only."""
    marks = each_text(session, {fingerprint for _, fingerprint in wanted})
    earlier = aliased(Item)
    newest = (
        sa.select(earlier.id)
        .where(
            earlier.fingerprint == marks.c.value,
            earlier.fingerprint.is_not(None),
            is_value(earlier.status, ItemStatus.SUCCEEDED),
            earlier.result_key.is_not(None),
            earlier.output_bytes.is_not(None),
        )
        .order_by(earlier.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        sa.select(Item, Job.api_key_id)
        .select_from(marks)
        .join(Item, Item.id == newest)
        .join(Job, Job.id == Item.job_id)
        # The fingerprint includes the key's id already; this condition makes it visible.
        .where(Job.api_key_id.in_({api_key_id for api_key_id, _ in wanted}))
    )
    asked = set(wanted)
    found: dict[tuple[uuid.UUID, str], EarlierResult] = {}
    for item, api_key_id in session.execute(statement):
        place = (api_key_id, item.fingerprint)
        if place in asked and item.result_key is not None and item.output_bytes is not None:
            found[place] = EarlierResult(
                result_key=item.result_key,
                outputs=item.outputs,
                review_reasons=item.review_reasons or [],
                matte_model=item.matte_model,
                width=item.width or 0,
                height=item.height or 0,
                output_bytes=item.output_bytes,
                crc32=item.result_crc32,
            )
    return found
