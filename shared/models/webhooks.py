"""The tables of webhooks and of their deliveries with all attempts."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, new_id, partial_index
from shared.webhooks import DeliveryStatus, DisabledReason, Event


class Webhook(Base):
    """An address that receives the events of all jobs of a key, or of one job.

    The secrets are stored readable, because the service signs with them: a reader of the database
    can forge webhooks, but nothing else. The API shows a secret only once, when it is created.
    """

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_receivers", "api_key_id", "job_id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    job_id: Mapped[uuid.UUID | None]
    """The only job whose events it receives; None: all jobs of the key. The job may be deleted
    already.
    """
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]]
    """The subscribed `job.*` events, except progress."""
    progress_percent: Mapped[int | None]
    """Send `job.progress` each time this percentage more has ended."""
    secrets: Mapped[list[dict[str, Any]]]
    """Each has a `secret` and `until`, the end of its validity (ISO 8601; null: current); newest
    first.
    """
    created_at: Mapped[datetime]
    last_delivered_at: Mapped[datetime | None]
    quiet_until: Mapped[datetime | None]
    """No delivery before this time: the receiver sent `Retry-After`."""
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[DisabledReason | None]


class Delivery(Base):
    """One event for one webhook, written in the transaction that caused the event."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_listing", "api_key_id", "id"),
        Index("ix_webhook_deliveries_webhook", "webhook_id", "id"),
        Index("ix_webhook_deliveries_job", "job_id", "id"),
        Index("ix_webhook_deliveries_age", "created_at"),
        partial_index(
            "ix_webhook_deliveries_pending",
            "webhook_id",
            "next_attempt_at",
            "id",
            where="status = 'pending'",
        ),
        # Very few deliveries are undelivered, and queries look for these.
        partial_index(
            "ix_webhook_deliveries_undelivered",
            "api_key_id",
            "status",
            "id",
            where="status <> 'delivered'",
        ),
        partial_index(
            "ix_webhook_deliveries_undelivered_to",
            "webhook_id",
            "status",
            "id",
            where="status <> 'delivered'",
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    """The `webhook-id` header, the same for all attempts."""
    webhook_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    job_id: Mapped[uuid.UUID | None]
    event: Mapped[Event]
    body: Mapped[str] = mapped_column(Text)
    """The JSON body, the same bytes for all attempts."""
    status: Mapped[DeliveryStatus] = mapped_column(default=DeliveryStatus.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    """Number of attempts begun. It also is the fence: only the latest may record its outcome."""
    retry_step: Mapped[int] = mapped_column("rung", default=0)
    """Steps of MATTING_WEBHOOK_RETRIES_S used since the delivery was last requested."""
    log: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    """The latest attempts: `at`, `outcome`, `http_status`, `detail`, `duration_ms`."""
    next_attempt_at: Mapped[datetime | None]
    """When the next attempt is due; during an attempt, when another may start after a crash."""
    created_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
