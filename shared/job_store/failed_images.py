"""Images that fail without an outcome of a worker: in metrics and log, once it is committed.

A worker reports the outcomes that it records (worker.consumer.settlement). Other images fail in the
transaction of whoever finds that they can't go on: there may be no worker left to say so.
"""

from functools import partial

from sqlalchemy.orm import Session

from shared.database import after_commit
from shared.models import Item
from shared.telemetry import IMAGES, get_logger

log = get_logger(__name__)


def note_failed(session: Session, item: Item) -> None:
    """Report a failed image when the transaction is committed."""
    told: dict[str, str | int] = {
        "job": str(item.job_id),
        "item": str(item.id),
        "file": item.name,
        "attempt": item.attempts,
        "state": "recorded",
        "code": item.error_code or "",
        "detail": item.error_detail or "",
    }
    after_commit(session, partial(_report, told))


def _report(told: dict[str, str | int]) -> None:
    IMAGES.labels("failed", told["code"]).inc()
    log.warning("image-failed", **told)
