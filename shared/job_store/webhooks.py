"""Webhooks of an API key: create, find, change, rotate their secrets."""

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
"""Most secrets that sign at the same time; rotating more often drops the oldest."""


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
    """Create a webhook for all jobs of the key, or for one job. Raises TooManyWebhooksError if the
    key already has `limit`; webhooks of single jobs do not count.
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
    """The webhooks for all jobs of the key, oldest first."""
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
    """Create and return a new secret; the previous ones also sign for another `overlap_s`."""
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
    """The secrets that are valid at this time, newest first."""
    return [one["secret"] for one in webhook.secrets if _signs(one["until"], moment)]


def old_secret_until(webhook: Webhook, moment: datetime) -> datetime | None:
    """When the last of the previous secrets expires; None: there is none."""
    ends = [datetime.fromisoformat(one["until"]) for one in webhook.secrets if one["until"]]
    return max((end for end in ends if end > moment), default=None)


def disable_webhook(session: Session, webhook: Webhook, reason: DisabledReason) -> None:
    """Disable a webhook and give up its pending deliveries."""
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
    """Enable a webhook: it receives events from now on."""
    webhook.disabled_at = webhook.disabled_reason = webhook.quiet_until = None
    session.flush()


def delete_webhook(session: Session, webhook: Webhook) -> None:
    """Remove a webhook with its deliveries."""
    session.execute(sa.delete(Webhook).where(Webhook.id == webhook.id))


def _signs(until: str | None, moment: datetime) -> bool:
    return until is None or datetime.fromisoformat(until) > moment
