"""The outbox of webhooks: events are written in the transaction that causes them, so a crash cannot
lose one. shared.job_store.webhook_deliveries sends them.
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.job_store.conditions import is_among, is_postgresql
from shared.models import Delivery, Job, Webhook, new_id
from shared.webhooks import Event


def announce(session: Session, job: Job, event: Event) -> None:
    """Write an event of a locked job for each webhook that subscribed to it."""
    told = [webhook for webhook in _receivers(session, job) if event.value in webhook.events]
    _note(session, job, event, told)


def announce_progress(session: Session, jobs: Iterable[Job]) -> None:
    """Write progress events for webhooks whose next step is reached. While its source is being
    listed, the progress of a job is unknown.
    """
    before: dict[Job, int] = {}
    for job in jobs:
        if job.expanded_at is not None and job.total:
            percent = settled_percent(job)
            # Webhooks are queried a hundred times per job at most, not with each batch.
            if percent > job.progress_told and job.of_job_id is None:
                before[job] = job.progress_told
            job.progress_told = percent
    if not before:
        return
    given = {"keys": list({job.api_key_id for job in before}), "jobs": [job.id for job in before]}
    with session.no_autoflush:  # the job is written once, at the end
        webhooks = session.scalars(_of_progress(postgres=is_postgresql(session)), given).all()
    for job, percent in before.items():
        told = [
            webhook
            for webhook in webhooks
            if webhook.api_key_id == job.api_key_id
            and webhook.job_id in (None, job.id)
            and (step := webhook.progress_percent)
            and job.progress_told // step > percent // step
        ]
        _note(session, job, Event.JOB_PROGRESS, told)


@cache
def _of_progress(*, postgres: bool) -> sa.Select[tuple[Webhook]]:
    """The webhooks of some jobs that are told of progress, locked like `_receivers`. Built once:
    that takes as long as a round trip.
    """
    return (
        sa.select(Webhook)
        .where(
            is_among(Webhook.api_key_id, "keys", postgres=postgres),
            sa.or_(Webhook.job_id.is_(None), is_among(Webhook.job_id, "jobs", postgres=postgres)),
            Webhook.progress_percent.is_not(None),
            Webhook.disabled_at.is_(None),
        )
        .order_by(Webhook.id)
        .with_for_update(read=True, key_share=True)
    )


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
