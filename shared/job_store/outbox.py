"""The outbox of webhooks: events are written in the transaction that causes them, so a crash cannot
lose one. shared.job_store.webhook_deliveries sends them.
"""

import json
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.models import Delivery, Job, Webhook, new_id
from shared.webhooks import Event


def announce(session: Session, job: Job, event: Event) -> None:
    """Write an event of a locked job for each webhook that subscribed to it."""
    told = [webhook for webhook in _receivers(session, job) if event.value in webhook.events]
    _note(session, job, event, told)


def announce_progress(session: Session, job: Job) -> None:
    """Write progress events for webhooks whose next step is reached. While its source is being
    listed, the progress of a job is unknown.
    """
    if job.expanded_at is None or not job.total:
        return
    percent = settled_percent(job)
    before, job.progress_told = job.progress_told, percent
    if percent > before:  # queries webhooks a hundred times per job at most, not with each batch
        told = [
            webhook
            for webhook in _receivers(session, job)
            if (step := webhook.progress_percent) and percent // step > before // step
        ]
        _note(session, job, Event.JOB_PROGRESS, told)


def settled_percent(job: Job) -> int:
    """The percentage of ended images; the job must have images."""
    return 100 * (job.succeeded + job.failed + job.cancelled) // job.total


def announce_test(session: Session, webhook: Webhook) -> Delivery:
    """Write a test event for a webhook."""
    moment = now(session)
    data = {"webhook_id": str(webhook.id)}
    delivery = _delivery(webhook, Event.TEST, _body(Event.TEST, data, moment), moment)
    session.add(delivery)
    session.flush()
    return delivery


def _receivers(session: Session, job: Job) -> Sequence[Webhook]:
    """The webhooks of the job. They are locked, because a delivery to a webhook deleted in the
    meantime would violate its foreign key. A job that makes a version is nobody's to know.
    """
    if job.of_job_id is not None:
        return ()
    with session.no_autoflush:  # the job is written once, at the end
        return session.scalars(_RECEIVERS, {"key": job.api_key_id, "job": job.id}).all()


_RECEIVERS = (
    sa.select(Webhook)
    .where(
        Webhook.api_key_id == sa.bindparam("key"),
        sa.or_(Webhook.job_id.is_(None), Webhook.job_id == sa.bindparam("job")),
        Webhook.disabled_at.is_(None),
    )
    .order_by(Webhook.id)
    .with_for_update(read=True, key_share=True)
)


def _note(session: Session, job: Job, event: Event, webhooks: Sequence[Webhook]) -> None:
    if not webhooks:
        return
    moment = now(session)
    body = _body(event, job_data(job), moment)
    session.add_all(_delivery(webhook, event, body, moment, job.id) for webhook in webhooks)
    session.flush()


def _delivery(
    webhook: Webhook, event: Event, body: str, moment: datetime, job_id: uuid.UUID | None = None
) -> Delivery:
    return Delivery(
        id=new_id(),
        webhook_id=webhook.id,
        api_key_id=webhook.api_key_id,
        job_id=job_id,
        event=event,
        body=body,
        next_attempt_at=moment,
        created_at=moment,
    )


def job_data(job: Job) -> dict[str, Any]:
    """A short form of the job: some fields of `GET /v1/jobs/{id}` under the same names."""
    settled = job.succeeded + job.failed + job.cancelled
    error = {"code": job.error_code, "detail": job.error_detail or ""} if job.error_code else None
    return {
        "id": str(job.id),
        "status": job.status.value,
        "counts": {
            name: getattr(job, name)
            for name in ("total", "queued", "running", "succeeded", "failed", "cancelled")
        },
        "progress": settled / job.total if job.total else float(job.expanded_at is not None),
        "megapixels": round(job.pixels / 1e6, 3),
        "metadata": job.labels,
        "error": error,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
    }


def _body(event: Event, data: dict[str, Any], moment: datetime) -> str:
    body = {"type": event.value, "timestamp": _time(moment), "data": data}
    return json.dumps(body, separators=(",", ":"))


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
