"""/v1/webhooks and /v1/deliveries: webhooks and what was sent to them."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.http.auth import Caller, CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from api.routes.jobs import Cursor
from api.routes.lookup import uuid_cursor
from api.routes.pages import page_of, some_at_a_time
from api.schemas.requests import WebhookChange, WebhookRequest
from api.schemas.webhooks import (
    DeliveryOut,
    DeliveryPage,
    JobEvent,
    TrialEvent,
    WebhookList,
    WebhookMade,
    WebhookOut,
)
from api.sources.source_policy import webhook_address
from shared import job_store
from shared.database import Session, now
from shared.errors import (
    DeliveryNotFoundError,
    ForbiddenWebhookError,
    InvalidCursorError,
    TooManyWebhooksError,
    WebhookDisabledError,
    WebhookNotFoundError,
)
from shared.models import Delivery, Webhook
from shared.webhooks import DeliveryStatus, DisabledReason, new_secret

router = APIRouter(route_class=GuardedRoute, prefix="/v1", tags=["webhooks"])
sent = APIRouter()
"""The bodies of webhooks: no endpoints, only part of the OpenAPI description."""

Limit = Annotated[int, Query(ge=1, le=200)]


@router.post(
    "/webhooks", status_code=201, responses=responses(ForbiddenWebhookError, TooManyWebhooksError)
)
def create_webhook(body: WebhookRequest, resources: ResourcesDep, caller: CallerDep) -> WebhookMade:
    """Register an address for the events of your jobs, as the Standard Webhooks specification
    defines. Verify each delivery with the secret and answer 2xx within seconds. Other answers are
    retried for days; 410 disables the webhook.
    """
    url = webhook_address(body.url, resources.settings)
    secret = body.secret or new_secret()
    with resources.database.transaction() as session:
        webhook = job_store.create_webhook(
            session,
            api_key_id=caller.api_key_id,
            url=url,
            events=body.events,
            progress_percent=body.progress_percent,
            secret=secret,
            limit=resources.settings.max_webhooks_per_key,
        )
        return _made(session, webhook, secret)


@router.get("/webhooks")
def list_webhooks(resources: ResourcesDep, caller: CallerDep) -> WebhookList:
    """The webhooks for all your jobs, oldest first. Webhooks of single jobs appear in the
    deliveries only.
    """
    with resources.database.transaction() as session:
        moment = now(session)
        found = job_store.list_webhooks(session, api_key_id=caller.api_key_id)
        return WebhookList(webhooks=[WebhookOut.of(one, moment) for one in found])


@router.get("/webhooks/{webhook_id}", responses=responses(WebhookNotFoundError))
def get_webhook(webhook_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> WebhookOut:
    """One webhook."""
    with resources.database.transaction() as session:
        return WebhookOut.of(_find(session, caller, webhook_id), now(session))


@router.patch(
    "/webhooks/{webhook_id}", responses=responses(WebhookNotFoundError, ForbiddenWebhookError)
)
def change_webhook(
    webhook_id: uuid.UUID, body: WebhookChange, resources: ResourcesDep, caller: CallerDep
) -> WebhookOut:
    """Change a webhook, or disable and enable it."""
    if body.url is not None:
        webhook_address(body.url, resources.settings)
    if body.enabled is True:
        _give_up_deliveries(resources, caller, webhook_id)
    with resources.database.transaction() as session:
        webhook = _find(session, caller, webhook_id)
        if body.url is not None:
            webhook.url, webhook.quiet_until = body.url, None
        if body.events is not None:
            webhook.events = [event.value for event in body.events]
        if "progress_percent" in body.model_fields_set:
            webhook.progress_percent = body.progress_percent
        if body.enabled is True:
            job_store.enable_webhook(session, webhook)
        elif body.enabled is False and webhook.disabled_at is None:
            job_store.disable_webhook(session, webhook, DisabledReason.CALLER)
        return WebhookOut.of(webhook, now(session))


def _give_up_deliveries(resources: Resources, caller: Caller, webhook_id: uuid.UUID) -> None:
    """Give up what a disabled webhook has not been told, before it is enabled again."""
    with resources.database.transaction() as session:
        _find(session, caller, webhook_id)
    left = job_store.PAGE_DELIVERIES
    while left == job_store.PAGE_DELIVERIES:
        with resources.database.transaction() as session:
            left = job_store.give_up_deliveries(session, webhook_id)


@router.post("/webhooks/{webhook_id}/rotate", responses=responses(WebhookNotFoundError))
def rotate_secret(webhook_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> WebhookMade:
    """Replace the secret. The old secret also signs for one more day, so that receivers can always
    verify.
    """
    with resources.database.transaction() as session:
        webhook = _find(session, caller, webhook_id)
        secret = job_store.rotate_secret(
            session, webhook, overlap_s=resources.settings.webhook_overlap_s
        )
        return _made(session, webhook, secret)


@router.post(
    "/webhooks/{webhook_id}/test",
    status_code=202,
    responses=responses(WebhookNotFoundError, WebhookDisabledError),
)
def test_webhook(webhook_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> DeliveryOut:
    """Send a test event. Read the delivery to see the outcome."""
    with resources.database.transaction() as session:
        webhook = _find_enabled(session, caller, webhook_id)
        delivery = DeliveryOut.of(job_store.announce_test(session, webhook))
    resources.deliverer.wake()
    return delivery


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=responses(WebhookNotFoundError))
def delete_webhook(webhook_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> None:
    """Remove a webhook with its deliveries."""
    with resources.database.transaction() as session:
        job_store.delete_webhook(session, _find(session, caller, webhook_id))


@router.get("/deliveries", response_model=DeliveryPage, responses=responses(InvalidCursorError))
def list_deliveries(
    resources: ResourcesDep,
    caller: CallerDep,
    webhook_id: uuid.UUID | None = None,
    job_id: uuid.UUID | None = None,
    status: DeliveryStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """The deliveries of your webhooks, newest first."""

    def read(before: uuid.UUID | None, limit: int) -> Sequence[Delivery]:
        with resources.database.transaction() as session:
            return job_store.list_deliveries(
                session,
                api_key_id=caller.api_key_id,
                webhook_id=webhook_id,
                job_id=job_id,
                status=status,
                before=before,
                limit=limit,
            )

    before = uuid_cursor(cursor) if cursor else None
    found = some_at_a_time(read, lambda one: one.id, before, limit + 1)
    return page_of("deliveries", ((DeliveryOut.of(one), one.id) for one in found), limit)


@router.get("/deliveries/{delivery_id}", responses=responses(DeliveryNotFoundError))
def get_delivery(delivery_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> DeliveryOut:
    """One delivery with its attempts."""
    with resources.database.transaction() as session:
        found = job_store.get_delivery(session, delivery_id, api_key_id=caller.api_key_id)
        if found is None:
            raise DeliveryNotFoundError(f"There is no delivery {delivery_id}")
        return DeliveryOut.of(found)


@router.post(
    "/deliveries/{delivery_id}/redeliver",
    status_code=202,
    responses=responses(DeliveryNotFoundError, WebhookDisabledError),
)
def redeliver_webhook(
    delivery_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep
) -> DeliveryOut:
    """Send a delivery again now, with the same `webhook-id`, whether it succeeded or failed."""
    with resources.database.transaction() as session:
        found = job_store.get_delivery(session, delivery_id, api_key_id=caller.api_key_id)
        if found is None:
            raise DeliveryNotFoundError(f"There is no delivery {delivery_id}")
        _find_enabled(session, caller, found.webhook_id)  # lock the webhook first
        again = job_store.redeliver(session, delivery_id)
        if again is None:
            raise DeliveryNotFoundError(f"There is no delivery {delivery_id}")
        delivery = DeliveryOut.of(again)
    resources.deliverer.wake()
    return delivery


_ANSWERS: dict[int | str, dict[str, Any]] = {
    204: {"description": "Taken; any other 2xx says the same."},
    410: {"description": "The receiver wants no more events: the webhook is disabled."},
    "4XX": {"description": "The delivery is tried again later, as after any other answer or none."},
}


@sent.post("job-event", name="job", status_code=204, responses=_ANSWERS)
def job_event(body: JobEvent) -> None:
    """An event of a job. The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` are
    those of the Standard Webhooks specification. A delivery with a known `webhook-id` is a
    repetition.
    """


@sent.post("trial-event", name="trial", status_code=204, responses=_ANSWERS)
def trial_event(body: TrialEvent) -> None:
    """A test event that you requested with `POST /v1/webhooks/{webhook_id}/test`."""


def _find(session: Session, caller: Caller, webhook_id: uuid.UUID) -> Webhook:
    """A webhook of the caller, locked. Raises WebhookNotFoundError."""
    webhook = job_store.get_webhook(session, webhook_id, api_key_id=caller.api_key_id)
    if webhook is None:
        raise WebhookNotFoundError(f"There is no webhook {webhook_id}")
    return webhook


def _find_enabled(session: Session, caller: Caller, webhook_id: uuid.UUID) -> Webhook:
    webhook = _find(session, caller, webhook_id)
    if webhook.disabled_at is not None:
        raise WebhookDisabledError(f"The webhook {webhook_id} is disabled")
    return webhook


def _made(session: Session, webhook: Webhook, secret: str) -> WebhookMade:
    shown = WebhookOut.of(webhook, now(session))
    return WebhookMade(**shown.model_dump(), secret=secret)
