"""Webhook events and signatures, as the Standard Webhooks specification 1.0 defines them."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

SECRET_PREFIX = "whsec_"  # noqa: S105 - the specification's mark of a secret, not one

SECRET_BYTES = (24, 64)
"""The shortest and the longest secret that the specification allows."""

MADE_SECRET_BYTES = 32


class Event(StrEnum):
    """The event; `type` in a webhook's body."""

    JOB_FINISHED = "job.finished"
    """Every image of the job has ended."""
    JOB_CANCELLED = "job.cancelled"
    """The job was cancelled. Images that a worker holds are still recorded."""
    JOB_PAUSED = "job.paused"
    """The job was paused by its caller, or because too many images failed (see `error`)."""
    JOB_PROGRESS = "job.progress"
    """A further `progress_percent` of the job's images has ended."""
    TEST = "webhook.test"
    """A test requested by the owner of the webhook."""


class DeliveryStatus(StrEnum):
    """The state of one delivery."""

    PENDING = "pending"
    """Waiting for its first or next attempt."""
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    FAILED = "failed"
    """No attempts are left, or the webhook was disabled."""


class Outcome(StrEnum):
    """The outcome of one attempt; a label of the metric."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """Retryable: another status, a timeout or no connection."""
    GONE = "gone"
    """Status 410: the receiver wants no more events, and the webhook is disabled."""
    REFUSED = "refused"
    """The address is not public: nothing was sent."""


class DisabledReason(StrEnum):
    """Why a webhook is disabled."""

    CALLER = "caller"
    GONE = "gone"
    """The receiver answered 410."""
    FAILING = "failing"
    """One event used up all its attempts, and no other event succeeded in the meantime."""
    DELETED = "deleted"
    """The caller deleted it: nobody sees it any more, and its deliveries are being removed."""


def new_secret() -> str:
    """A new signing secret: `whsec_` and base64 of random bytes."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(MADE_SECRET_BYTES)).decode()


def secret_bytes(secret: str) -> bytes:
    """The bytes of a secret. Raises ValueError if it does not follow the specification."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError as error:
        raise ValueError("a secret must be `whsec_` and Base64 behind it") from error
    least, most = SECRET_BYTES
    if not secret.startswith(SECRET_PREFIX) or not least <= len(key) <= most:
        raise ValueError(f"a secret must be `whsec_` and the Base64 of {least} to {most} bytes")
    return key


def retry_after_s(header: str, moment: datetime) -> float:
    """The wait in seconds, from `moment`, that a `Retry-After` header (RFC 9110, 10.2.3) asks for;
    0 if the header is missing, invalid or in the past.
    """
    header = header.strip()
    if header.isascii() and header.isdecimal():
        return float(header[:10])  # longer numbers mean `for ever` anyway
    try:
        until = parsedate_to_datetime(header)
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (aware - moment).total_seconds())
    except (ValueError, OverflowError):
        return 0.0


def signed_headers(
    delivery_id: str, timestamp_s: int, body: bytes, secrets_: Sequence[str]
) -> dict[str, str]:
    """The headers of a delivery: one signature per valid secret, so that receivers can verify
    during a rotation whichever secret they know.
    """
    signed = f"{delivery_id}.{timestamp_s}.".encode() + body
    signatures = [
        base64.b64encode(hmac.digest(secret_bytes(secret), signed, hashlib.sha256)).decode()
        for secret in secrets_
    ]
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
