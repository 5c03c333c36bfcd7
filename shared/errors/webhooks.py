"""A webhook can't be registered, found or told."""

from shared.errors.requests import ConflictError, NotFoundError, RequestError


class WebhookNotFoundError(NotFoundError):
    """There is no webhook with this id, or it belongs to another key."""

    code = "webhook-not-found"


class DeliveryNotFoundError(NotFoundError):
    """There is no delivery with this id any more, or it belongs to another key."""

    code = "delivery-not-found"


class TooManyWebhooksError(ConflictError):
    """The API key has as many webhooks as it may have."""

    code = "too-many-webhooks"
    remedy = "Delete one, or name the webhook with each job; one webhook may serve many jobs."


class WebhookDisabledError(ConflictError):
    """The webhook is switched off."""

    code = "webhook-disabled"
    remedy = "Switch it on again (`enabled`: true), then send again what it missed."


class ForbiddenWebhookError(RequestError):
    """The webhook's URL leads to an address that this service must not visit."""

    code = "forbidden-webhook"
    http_status = 403
    remedy = "Use a public http(s) address, or ask for MATTING_ALLOW_PRIVATE_ADDRESSES."
