"""Webhook deliveries: claim the due ones, record attempts, list them.

Locks are taken in one order: the webhook first, then its deliveries.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.job_store.conditions import is_value
from shared.job_store.webhooks import (
    disable_webhook,
    is_known,
    lock_webhooks,
    signing_secrets,
)
from shared.models import ApiKey, Delivery, Job, Webhook
from shared.webhooks import DeliveryStatus, DisabledReason, Event, Outcome

LOG_ATTEMPTS = 20
"""Number of attempts that a delivery keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt to deliver, which this process holds until its lease expires."""

    delivery_id: uuid.UUID
    webhook_id: uuid.UUID
    api_key_id: uuid.UUID
    event: Event
    url: str
    body: bytes
    secrets: Sequence[str]
    number: int
    """Number of the attempt, from 1; the fence that refuses a late record."""
    retry_step: int
    """Number of attempts since the delivery was last requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """The result of an attempt."""

    outcome: Outcome
    http_status: int | None = None
    detail: str = ""
    duration_ms: float
    retry_s: float | None = None
    """After a failure: the wait before the next attempt; None: there is none."""
    quiet_s: float = 0.0
    """How long the receiver asked for no deliveries at all (`Retry-After`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDeliveries:
    """Claimed attempts, of one page of the webhooks with due deliveries."""

    attempts: list[Attempt]
    last: uuid.UUID | None
    """The last webhook of the page; the next page begins after it. None: there are no more."""
    disabled: list[uuid.UUID]
    """Webhooks of the page that are disabled and still have deliveries to give up."""


PAGE_WEBHOOKS = 200
"""Webhooks per statement, each with one index lookup."""


def claim_deliveries(
    session: Session,
    *,
    after: uuid.UUID | None,
    busy: Collection[uuid.UUID],
    taken: Mapping[uuid.UUID, int],
    of_key: int,
    limit: int,
    lease_s: float,
) -> ClaimedDeliveries:
    """Claim up to `limit` due deliveries of the next page of webhooks, after the webhook `after`:
    the oldest of each webhook that is not `busy` and has no quiet time. One API key gets at most
    `of_key` attempts, including those in `taken`, so that slow receivers of one key do not delay
    others. Only the head of a backlog is read, whatever its length.
    """
    moment = now(session)
    waiting = _waiting_webhooks(session, after)
    last = waiting[-1] if len(waiting) == PAGE_WEBHOOKS else None
    head = (
        sa.select(Delivery.id)
        .where(
            Delivery.webhook_id == Webhook.id,
            is_value(Delivery.status, DeliveryStatus.PENDING),
            Delivery.next_attempt_at <= moment,
        )
        .order_by(Delivery.next_attempt_at, Delivery.id)
        .limit(1)
        .correlate(Webhook)
        .scalar_subquery()
    )
    first = (
        sa.select(head)
        .select_from(Webhook)
        .join(ApiKey, ApiKey.id == Webhook.api_key_id)
        .where(
            Webhook.id.in_([one for one in waiting if one not in busy]),
            ApiKey.revoked_at.is_(None),
            Webhook.disabled_at.is_(None),
            sa.or_(Webhook.quiet_until.is_(None), Webhook.quiet_until <= moment),
        )
    )
    due = [one for one in session.scalars(first) if one is not None]
    rows = session.execute(
        sa.select(Delivery, Webhook)
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .where(
            Delivery.id.in_(due),
            Delivery.status == DeliveryStatus.PENDING,
            Delivery.next_attempt_at <= moment,
        )
        .order_by(Delivery.next_attempt_at, Delivery.id)
        .with_for_update(of=Delivery, skip_locked=True)
    ).all()
    attempts: list[Attempt] = []
    of_keys = Counter(taken)
    for delivery, webhook in rows:
        if len(attempts) == limit or of_keys[delivery.api_key_id] >= of_key:
            continue
        of_keys[delivery.api_key_id] += 1
        delivery.attempts += 1
        delivery.next_attempt_at = moment + timedelta(seconds=lease_s)
        attempts.append(
            Attempt(
                delivery_id=delivery.id,
                webhook_id=webhook.id,
                api_key_id=delivery.api_key_id,
                event=delivery.event,
                url=webhook.url,
                body=delivery.body.encode(),
                secrets=signing_secrets(webhook, moment),
                number=delivery.attempts,
                retry_step=delivery.retry_step,
            )
        )
    session.flush()
    disabled = sa.select(Webhook.id).where(
        Webhook.id.in_(waiting), Webhook.disabled_at.is_not(None)
    )
    return ClaimedDeliveries(attempts=attempts, last=last, disabled=list(session.scalars(disabled)))


def _waiting_webhooks(session: Session, after: uuid.UUID | None) -> list[uuid.UUID]:
    """A page of the webhooks with pending deliveries, by id. It jumps from one to the next in the
    index, past all deliveries between.
    """
    pending = is_value(Delivery.status, DeliveryStatus.PENDING)
    first = sa.select(Delivery.webhook_id).where(pending)
    if after is not None:
        first = first.where(Delivery.webhook_id > after)
    start = first.order_by(Delivery.webhook_id).limit(1).scalar_subquery()
    found = sa.select(start.label("webhook_id")).cte("waiting", recursive=True)
    following = (
        sa.select(Delivery.webhook_id)
        .where(pending, Delivery.webhook_id > found.c.webhook_id)
        .order_by(Delivery.webhook_id)
        .limit(1)
        .correlate(found)
        .scalar_subquery()
    )
    found = found.union_all(sa.select(following).where(found.c.webhook_id.is_not(None)))
    page = sa.select(found.c.webhook_id).where(found.c.webhook_id.is_not(None))
    return list(session.scalars(page.limit(PAGE_WEBHOOKS)))


def record_attempt(session: Session, attempt: Attempt, result: AttemptResult) -> bool:
    """Record the result of an attempt and its consequences for the webhook. Returns False without
    recording if a newer attempt exists or the webhook was deleted.
    """
    webhook = session.get(Webhook, attempt.webhook_id, with_for_update={"key_share": True})
    delivery = session.get(Delivery, attempt.delivery_id, with_for_update=True)
    if webhook is None or delivery is None or delivery.attempts != attempt.number:
        return False
    if delivery.status is not DeliveryStatus.PENDING:  # disabled in the meantime
        return False
    moment = now(session)
    entry = {
        "at": moment.isoformat(),
        "outcome": result.outcome.value,
        "http_status": result.http_status,
        "detail": result.detail,
        "duration_ms": round(result.duration_ms, 1),
    }
    delivery.log = [*delivery.log, entry][-LOG_ATTEMPTS:]
    delivery.retry_step += 1
    delivery.next_attempt_at = None
    webhook.quiet_until = moment + timedelta(seconds=result.quiet_s) if result.quiet_s else None
    if result.outcome is Outcome.DELIVERED:
        delivery.status, delivery.settled_at = DeliveryStatus.DELIVERED, moment
        webhook.last_delivered_at = moment
    elif result.retry_s is not None:
        delivery.next_attempt_at = moment + timedelta(seconds=result.retry_s)
    else:
        delivery.status, delivery.settled_at = DeliveryStatus.FAILED, moment
    session.flush()
    if result.outcome is Outcome.GONE:
        disable_webhook(session, webhook, DisabledReason.GONE)
    elif delivery.status is DeliveryStatus.FAILED and result.outcome is Outcome.FAILED:
        since = webhook.last_delivered_at
        if since is None or since < delivery.created_at:
            disable_webhook(session, webhook, DisabledReason.FAILING)
    return True


def redeliver(session: Session, delivery_id: uuid.UUID) -> Delivery | None:
    """Send a delivery again now, whether it succeeded or failed, with all attempts available again.
    The caller has locked its webhook. None: it was forgotten in the meantime.
    """
    delivery = session.get(Delivery, delivery_id, with_for_update=True)
    if delivery is None:
        return None
    delivery.status, delivery.settled_at, delivery.retry_step = DeliveryStatus.PENDING, None, 0
    delivery.next_attempt_at = now(session)
    session.flush()
    return delivery


def get_delivery(
    session: Session, delivery_id: uuid.UUID, *, api_key_id: uuid.UUID
) -> Delivery | None:
    """The delivery, if it is this key's."""
    return session.scalar(
        sa.select(Delivery).where(
            Delivery.id == delivery_id, Delivery.api_key_id == api_key_id, _webhook_is_known()
        )
    )


def _webhook_is_known() -> sa.ColumnElement[bool]:
    known = sa.select(Webhook.id).where(Webhook.id == Delivery.webhook_id, is_known())
    return known.exists()


def list_deliveries(
    session: Session,
    *,
    api_key_id: uuid.UUID,
    webhook_id: uuid.UUID | None,
    job_id: uuid.UUID | None,
    status: DeliveryStatus | None,
    before: uuid.UUID | None,
    limit: int,
) -> Sequence[Delivery]:
    """A page of the key's deliveries, newest first, created before the delivery `before`."""
    statement = sa.select(Delivery).where(Delivery.api_key_id == api_key_id, _webhook_is_known())
    for column, value in (
        (Delivery.webhook_id, webhook_id),
        (Delivery.job_id, job_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if status is not None:
        statement = statement.where(is_value(Delivery.status, status))
    if before is not None:
        statement = statement.where(Delivery.id < before)
    return session.scalars(statement.order_by(Delivery.id.desc()).limit(limit)).all()


def forget_deliveries(session: Session, *, older_than_s: float, limit: int) -> int:
    """Delete up to `limit` old deliveries, and webhooks of deleted jobs that have no delivery left;
    returns the number of deliveries.
    """
    old = sa.select(Delivery.id, Delivery.webhook_id).where(
        Delivery.created_at < now(session) - timedelta(seconds=older_than_s)
    )
    rows = session.execute(old.order_by(Delivery.created_at).limit(limit)).all()
    lock_webhooks(session, {row.webhook_id for row in rows})
    session.execute(
        sa.delete(Delivery)
        .where(Delivery.id.in_([row.id for row in rows]))
        .execution_options(synchronize_session=False)
    )
    told = sa.select(Delivery.id).where(Delivery.webhook_id == Webhook.id)
    job = sa.select(Job.id).where(Job.id == Webhook.job_id)
    session.execute(
        sa.delete(Webhook)
        .where(
            Webhook.id.in_({row.webhook_id for row in rows}),
            Webhook.job_id.is_not(None),
            ~told.exists(),
            ~job.exists(),
        )
        .execution_options(synchronize_session=False)
    )
    return len(rows)
