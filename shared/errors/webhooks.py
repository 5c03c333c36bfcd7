"""Errors of webhooks and their deliveries."""

from shared.errors.requests import ConflictError, NotFoundError, RequestError


class WebhookNotFoundError(NotFoundError):
    """There is no webhook with this id, or it belongs to another API key."""

    code = "webhook-not-found"


class DeliveryNotFoundError(NotFoundError):
    """There is no delivery with this id (any more), or it belongs to another API key."""

    code = "delivery-not-found"


class TooManyWebhooksError(ConflictError):
    """The API key has reached its maximum number of webhooks."""

    code = "too-many-webhooks"
    remedy = "Delete a webhook, or pass one with each job. One webhook can serve many jobs."


class WebhookDisabledError(ConflictError):
    """The webhook is disabled."""

    code = "webhook-disabled"
    remedy = "Enable it (`enabled`: true), then redeliver what it missed."


class ForbiddenWebhookError(RequestError):
    """The webhook's URL points to an address that this service must not connect to."""

    code = "forbidden-webhook"
    http_status = 403
    remedy = (
        "Use a public http(s) address, or ask the operator to set MATTING_ALLOW_PRIVATE_ADDRESSES."
    )
