"""Webhooks of an API key: create, find, change, rotate their secrets."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.errors import TooManyWebhooksError
from shared.job_store.api_keys import lock_api_key
from shared.job_store.conditions import is_value
from shared.models import Delivery, Webhook
from shared.webhooks import DeliveryStatus, DisabledReason, Event, new_secret

PAGE_DELIVERIES = 250
"""Deliveries that one transaction gives up or removes. A webhook may have any number of them: its
receiver was away for days while jobs went on.
"""

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
    if limit is not None:
        lock_api_key(session, api_key_id)
        if len(list_webhooks(session, api_key_id=api_key_id)) >= limit:
            raise TooManyWebhooksError(f"The key already has {limit} webhooks, the maximum")
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
    statement = sa.select(Webhook).where(
        Webhook.api_key_id == api_key_id, Webhook.job_id.is_(None), is_known()
    )
    return session.scalars(statement.order_by(Webhook.id)).all()


def get_webhook(
    session: Session, webhook_id: uuid.UUID, *, api_key_id: uuid.UUID
) -> Webhook | None:
    """The webhook, if it is this key's; locked."""
    return session.scalar(
        sa.select(Webhook)
        .where(Webhook.id == webhook_id, Webhook.api_key_id == api_key_id, is_known())
        .with_for_update(key_share=True)
    )


def lock_webhooks(session: Session, ids: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Lock these webhooks in the order of their ids, before their deliveries; returns those that
    there are.
    """
    statement = sa.select(Webhook.id).where(Webhook.id.in_(set(ids))).order_by(Webhook.id)
    return list(session.scalars(statement.with_for_update(key_share=True)))


def is_known() -> sa.ColumnElement[bool]:
    """The condition for webhooks that their caller has not deleted."""
    return Webhook.disabled_reason.is_distinct_from(DisabledReason.DELETED)


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
    """Disable a webhook. Nothing is sent to it from now on; its pending deliveries are given up in
    pages, the first one here.
    """
    webhook.disabled_at, webhook.disabled_reason = now(session), reason
    session.flush()
    give_up_deliveries(session, webhook.id)


def give_up_deliveries(session: Session, webhook_id: uuid.UUID) -> int:
    """Give up a page of the pending deliveries of a disabled webhook; returns how many. Less than
    PAGE_DELIVERIES: there are no more.
    """
    webhook = session.get(Webhook, webhook_id, with_for_update={"key_share": True})
    if webhook is None or webhook.disabled_at is None:
        return 0
    page = (
        sa.select(Delivery.id)
        .where(Delivery.webhook_id == webhook_id, is_value(Delivery.status, DeliveryStatus.PENDING))
        .order_by(Delivery.next_attempt_at, Delivery.id)
        .limit(PAGE_DELIVERIES)
    )
    ids = list(session.scalars(page))
    session.execute(
        sa.update(Delivery)
        .where(Delivery.id.in_(ids))
        .values(status=DeliveryStatus.FAILED, next_attempt_at=None, settled_at=webhook.disabled_at)
        .execution_options(synchronize_session="fetch")
    )
    session.flush()
    return len(ids)


def enable_webhook(session: Session, webhook: Webhook) -> None:
    """Enable a webhook: it receives events from now on. Its pending deliveries must have been given
    up before.
    """
    webhook.disabled_at = webhook.disabled_reason = webhook.quiet_until = None
    session.flush()


def delete_webhook(session: Session, webhook: Webhook) -> None:
    """Hide a webhook from its caller at once, and remove the first page of its deliveries;
    `remove_deleted_webhooks` removes the others.
    """
    webhook.disabled_at, webhook.disabled_reason = now(session), DisabledReason.DELETED
    session.flush()
    _remove_page(session, webhook.id)


def remove_deleted_webhooks(session: Session) -> int:
    """Remove a page of the deliveries of a deleted webhook, or, after the last one, the webhook
    itself. Returns 0 if there is no deleted webhook.
    """
    deleted = sa.select(Webhook.id).where(Webhook.disabled_reason == DisabledReason.DELETED)
    webhook_id = session.scalar(deleted.order_by(Webhook.id).limit(1))
    if webhook_id is None or not lock_webhooks(session, [webhook_id]):
        return 0
    return _remove_page(session, webhook_id)


def _remove_page(session: Session, webhook_id: uuid.UUID) -> int:
    page = sa.select(Delivery.id).where(Delivery.webhook_id == webhook_id)
    ids = list(session.scalars(page.order_by(Delivery.id).limit(PAGE_DELIVERIES)))
    session.execute(sa.delete(Delivery).where(Delivery.id.in_(ids)))
    if len(ids) < PAGE_DELIVERIES:
        session.execute(sa.delete(Webhook).where(Webhook.id == webhook_id))
        return len(ids) + 1
    return len(ids)


def _signs(until: str | None, moment: datetime) -> bool:
    return until is None or datetime.fromisoformat(until) > moment
