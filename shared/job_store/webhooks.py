"""Webhooks: made, found, changed, their secrets exchanged. Each is its API key's own."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import TooManyWebhooksError
from shared.models import Delivery, Webhook
from shared.webhooks import DeliveryStatus, DisabledReason, Event, new_secret

MAX_SECRETS = 5
"""That sign at a time: exchanged more often within the overlap, the oldest goes."""


def create_webhook(
    session: Session,
    *,
    api_key_id: uuid.UUID,
    url: str,
    events: Sequence[Event],
    progress_percent: int | None,
    secret: str,
    job_id: uuid.UUID | None = None,
    limit: int | None = None,
) -> Webhook:
    """Add a webhook of all the key's jobs, or of one. Raises TooManyWebhooksError when the key has
    `limit` of them; those of single jobs don't count.
    """
    if limit is not None and len(list_webhooks(session, api_key_id=api_key_id)) >= limit:
        raise TooManyWebhooksError(f"The key has {limit} webhooks, the most that it may have")
    webhook = Webhook(
        api_key_id=api_key_id,
        job_id=job_id,
        url=url,
        events=[event.value for event in events],
        progress_percent=progress_percent,
        secrets=[{"secret": secret, "until": None}],
        created_at=now(session),
    )
    session.add(webhook)
    session.flush()
    return webhook


def list_webhooks(session: Session, *, api_key_id: uuid.UUID) -> Sequence[Webhook]:
    """Those of all the key's jobs, oldest first."""
    statement = sa.select(Webhook).where(Webhook.api_key_id == api_key_id, Webhook.job_id.is_(None))
    return session.scalars(statement.order_by(Webhook.id)).all()


def get_webhook(
    session: Session, webhook_id: uuid.UUID, *, api_key_id: uuid.UUID
) -> Webhook | None:
    """The webhook, if it is this key's; locked."""
    return session.scalar(
        sa.select(Webhook)
        .where(Webhook.id == webhook_id, Webhook.api_key_id == api_key_id)
        .with_for_update(key_share=True)
    )


def rotate_secret(session: Session, webhook: Webhook, *, overlap_s: float) -> str:
    """Give a webhook a new secret and return it; the ones before sign along for `overlap_s`."""
    moment = now(session)
    secret = new_secret()
    until = (moment + timedelta(seconds=overlap_s)).isoformat()
    kept = [
        {"secret": one["secret"], "until": one["until"] or until}
        for one in webhook.secrets
        if _signs(one["until"], moment)
    ]
    webhook.secrets = [{"secret": secret, "until": None}, *kept][:MAX_SECRETS]
    session.flush()
    return secret


def signing_secrets(webhook: Webhook, moment: datetime) -> list[str]:
    """The secrets that sign at this moment, the newest first."""
    return [one["secret"] for one in webhook.secrets if _signs(one["until"], moment)]


def old_secret_until(webhook: Webhook, moment: datetime) -> datetime | None:
    """Until when a secret that was exchanged still signs; None: none does."""
    ends = [datetime.fromisoformat(one["until"]) for one in webhook.secrets if one["until"]]
    return max((end for end in ends if end > moment), default=None)


def disable_webhook(session: Session, webhook: Webhook, reason: DisabledReason) -> None:
    """Switch a webhook off: what it was still to be told is given up."""
    moment = now(session)
    webhook.disabled_at, webhook.disabled_reason = moment, reason
    session.execute(
        sa.update(Delivery)
        .where(Delivery.webhook_id == webhook.id, Delivery.status == DeliveryStatus.PENDING)
        .values(status=DeliveryStatus.FAILED, next_attempt_at=None, settled_at=moment)
        .execution_options(synchronize_session="fetch")
    )
    session.flush()


def enable_webhook(session: Session, webhook: Webhook) -> None:
    """Switch a webhook on again: it is told what happens from now on."""
    webhook.disabled_at = webhook.disabled_reason = webhook.quiet_until = None
    session.flush()


def delete_webhook(session: Session, webhook: Webhook) -> None:
    """Remove a webhook with its deliveries."""
    session.execute(sa.delete(Webhook).where(Webhook.id == webhook.id))


def _signs(until: str | None, moment: datetime) -> bool:
    return until is None or datetime.fromisoformat(until) > moment
