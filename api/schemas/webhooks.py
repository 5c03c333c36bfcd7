"""The bodies of responses about webhooks and deliveries, and the bodies of webhooks."""

import json
import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.schemas.responses import Counts, ErrorOut
from shared import job_store
from shared.jobs import JobStatus
from shared.models import Delivery, Webhook
from shared.webhooks import DeliveryStatus, DisabledReason, Event, Outcome


class WebhookOut(BaseModel):
    """A webhook and its subscriptions."""

    id: uuid.UUID
    url: str = Field(examples=["https://shop.example/matting"])
    job_id: uuid.UUID | None = Field(
        description="The only job whose events it receives; null: all your jobs."
    )
    events: list[Event]
    progress_percent: int | None = Field(
        description="Receives `job.progress` in steps of this many percent."
    )
    enabled: bool
    disabled_reason: DisabledReason | None = Field(
        description="`gone`: the receiver answered 410. `failing`: one event used up all its "
        "attempts, and no other event succeeded in the meantime. `caller`: you disabled it."
    )
    disabled_at: datetime | None
    old_secret_until: datetime | None = Field(description="Until then replaced secrets also sign.")
    last_delivered_at: datetime | None
    quiet_until: datetime | None = Field(
        description="The receiver asked for no deliveries before this time (`Retry-After`)."
    )
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook, moment: datetime) -> "WebhookOut":
        """Make it from a database row, as of this moment."""
        return cls(
            id=webhook.id,
            url=webhook.url,
            job_id=webhook.job_id,
            events=[Event(event) for event in webhook.events],
            progress_percent=webhook.progress_percent,
            enabled=webhook.disabled_at is None,
            disabled_reason=webhook.disabled_reason,
            disabled_at=webhook.disabled_at,
            old_secret_until=job_store.old_secret_until(webhook, moment),
            last_delivered_at=webhook.last_delivered_at,
            quiet_until=webhook.quiet_until,
            created_at=webhook.created_at,
        )


class WebhookMade(WebhookOut):
    """A webhook with its new secret."""

    secret: str = Field(description="Verifies deliveries. Store it now: it is not shown again.")


class WebhookList(BaseModel):
    """The webhooks of all your jobs, oldest first."""

    webhooks: list[WebhookOut]


class AttemptOut(BaseModel):
    """An attempt to deliver an event."""

    at: datetime
    outcome: Outcome
    http_status: int | None
    detail: str
    duration_ms: float


class DeliveryOut(BaseModel):
    """The delivery of one event to one webhook."""

    id: uuid.UUID = Field(description="The `webhook-id`, the same in every attempt.")
    webhook_id: uuid.UUID
    job_id: uuid.UUID | None
    event: Event
    status: DeliveryStatus
    attempts: int
    log: list[AttemptOut] = Field(description="The latest attempts, oldest first.")
    payload: dict[str, Any] = Field(description="What is sent.")
    next_attempt_at: datetime | None
    created_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryOut":
        """Make it from a database row."""
        return cls(
            id=delivery.id,
            webhook_id=delivery.webhook_id,
            job_id=delivery.job_id,
            event=delivery.event,
            status=delivery.status,
            attempts=delivery.attempts,
            log=[AttemptOut.model_validate(one) for one in delivery.log],
            payload=json.loads(delivery.body),
            next_attempt_at=delivery.next_attempt_at,
            created_at=delivery.created_at,
            settled_at=delivery.settled_at,
        )


class DeliveryPage(BaseModel):
    """Deliveries, newest first."""

    deliveries: list[DeliveryOut]
    next_cursor: str | None = Field(
        description="Pass it as `cursor`; null: this was the last page."
    )


class JobSummary(BaseModel):
    """A short form of a job; `GET /v1/jobs/{id}` has the rest."""

    id: uuid.UUID
    status: JobStatus
    counts: Counts
    progress: float = Field(ge=0, le=1)
    megapixels: float
    metadata: dict[str, Any]
    error: ErrorOut | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobEvent(BaseModel):
    """The body of a webhook about a job."""

    type: Literal[Event.JOB_FINISHED, Event.JOB_CANCELLED, Event.JOB_PAUSED, Event.JOB_PROGRESS]
    timestamp: datetime = Field(description="When it happened.")
    data: JobSummary


class TrialData(BaseModel):
    """The webhook under test."""

    webhook_id: uuid.UUID


class TrialEvent(BaseModel):
    """The body of a test webhook."""

    type: Literal[Event.TEST]
    timestamp: datetime
    data: TrialData
