"""The tables of webhooks: who is told of what, and every delivery with its attempts."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, new_id, partial_index
from shared.webhooks import DeliveryStatus, DisabledReason, Event


class Webhook(Base):
    """An address that is told what happens to a key's jobs, or to one of them.

    Its secrets lie here as they are, because they must sign: whoever reads the database can forge
    what this service tells, and nothing else. No answer but the one that made a secret shows it.
    """

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_receivers", "api_key_id", "job_id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    job_id: Mapped[uuid.UUID | None]
    """The only job that it is told of; none: all of the key's. The job may be gone already."""
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]]
    """The `job.*` that it is told, but for progress."""
    progress_percent: Mapped[int | None]
    """Also told whenever another so many percent are settled."""
    secrets: Mapped[list[dict[str, Any]]]
    """`secret`, and `until` when it signs (ISO 8601; null: it is the present one); newest first."""
    created_at: Mapped[datetime]
    last_delivered_at: Mapped[datetime | None]
    quiet_until: Mapped[datetime | None]
    """Its receiver asked for it (`Retry-After`): nothing is sent before."""
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[DisabledReason | None]


class Delivery(Base):
    """One event on its way to one webhook, written in the transaction that made it happen."""

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
        # What was not delivered is looked for among very many that were.
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
    """The `webhook-id`: the same in every attempt."""
    webhook_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    job_id: Mapped[uuid.UUID | None]
    event: Mapped[Event]
    body: Mapped[str] = mapped_column(Text)
    """JSON, as it is sent: the same bytes in every attempt."""
    status: Mapped[DeliveryStatus] = mapped_column(default=DeliveryStatus.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    """How often it was begun; also the fence: only the latest may record how it went."""
    retry_step: Mapped[int] = mapped_column("rung", default=0)
    """Steps of the retry ladder behind it since it was last asked for."""
    log: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    """The latest attempts: `at`, `outcome`, `http_status`, `detail`, `duration_ms`."""
    next_attempt_at: Mapped[datetime | None]
    """When it is due; while an attempt is under way, when another may be made after a crash."""
    created_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
