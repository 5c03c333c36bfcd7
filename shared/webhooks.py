"""What a webhook tells, and how it is signed: the Standard Webhooks specification, 1.0."""

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
"""The least and the most that the specification allows."""

MADE_SECRET_BYTES = 32


class Event(StrEnum):
    """What happened; the `type` of a webhook's body."""

    JOB_FINISHED = "job.finished"
    """Every image of the job is settled."""
    JOB_CANCELLED = "job.cancelled"
    """The job was stopped; what a worker held by then is still recorded."""
    JOB_PAUSED = "job.paused"
    """The job is held: by its caller, or because too many images failed (`error` says so)."""
    JOB_PROGRESS = "job.progress"
    """Another so many percent of the job's images are settled."""
    TEST = "webhook.test"
    """Nothing happened: its receiver wants to see one."""


class DeliveryStatus(StrEnum):
    """The life of one event on its way to one webhook."""

    PENDING = "pending"
    """Waits for its first or its next attempt."""
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    FAILED = "failed"
    """Given up: no attempt is left, or the webhook was switched off."""


class Outcome(StrEnum):
    """How one attempt ended; the label of the metric."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """Worth another attempt: any other status, no answer in time, no connection."""
    GONE = "gone"
    """410: the receiver wants no more, and the webhook is switched off."""
    REFUSED = "refused"
    """The address is not a public one: nothing was sent, and nothing will be."""


class DisabledReason(StrEnum):
    """Why a webhook is switched off."""

    CALLER = "caller"
    GONE = "gone"
    """Its receiver answered 410."""
    FAILING = "failing"
    """One event used up every attempt, and none of another came through meanwhile."""


def new_secret() -> str:
    """A signing secret: `whsec_` and the base64 of random bytes."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(MADE_SECRET_BYTES)).decode()


def secret_bytes(secret: str) -> bytes:
    """The key that a secret stands for. Raises ValueError unless it is one as specified."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError as error:
        raise ValueError("a secret is whsec_ and base64") from error
    least, most = SECRET_BYTES
    if not secret.startswith(SECRET_PREFIX) or not least <= len(key) <= most:
        raise ValueError(f"a secret is whsec_ and the base64 of {least} to {most} bytes")
    return key


def retry_after_s(header: str, moment: datetime) -> float:
    """The seconds from `moment` that a `Retry-After` header (RFC 9110, 10.2.3) asks to wait: 0 for
    one that is empty, over or no such thing, as it comes from anyone.
    """
    header = header.strip()
    if header.isascii() and header.isdecimal():
        return float(header[:10])  # more digits are for ever too
    try:
        until = parsedate_to_datetime(header)
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (aware - moment).total_seconds())
    except (ValueError, OverflowError):
        return 0.0


def signed_headers(
    delivery_id: str, timestamp_s: int, body: bytes, secrets_: Sequence[str]
) -> dict[str, str]:
    """The specification's headers: one signature for each secret, so that a receiver that knows
    only one of them, as it is while a secret is exchanged, can verify.
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
