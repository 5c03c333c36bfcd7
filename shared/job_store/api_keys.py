"""API keys: create, authenticate, list, revoke. The database stores only their SHA-256."""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.jobs import Scope
from shared.models import ApiKey

KEY_PREFIX = "mtk_"
"""A prefix by which scanners for leaked secrets can recognise the keys."""


def create_api_key(
    session: Session,
    name: str,
    *,
    scopes: Sequence[Scope] | None = None,
    sources: Sequence[str] | None = None,
    destinations: Sequence[str] | None = None,
    requests_per_min: int | None = None,
    images_per_month: int | None = None,
) -> tuple[ApiKey, str]:
    """Create a key. Only this call returns the secret; it has 256 random bits, so a plain hash is
    safe.

    The limits are those of shared.models.ApiKey.
    """
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        name=name,
        hint=secret[:10],
        sha256=_digest(secret),
        created_at=now(session),
        scopes=[scope.value for scope in scopes] if scopes is not None else None,
        sources=list(sources) if sources is not None else None,
        destinations=list(destinations) if destinations is not None else None,
        requests_per_min=requests_per_min,
        images_per_month=images_per_month,
    )
    session.add(key)
    session.flush()
    return key, secret


def find_api_key(session: Session, secret: str) -> ApiKey | None:
    """The valid key with this secret. The lookup is by hash, which a caller cannot control byte by
    byte, and a second comparison takes constant time. So response times reveal nothing about keys.
    """
    digest = _digest(secret)
    key = session.scalar(
        sa.select(ApiKey).where(ApiKey.sha256 == digest, ApiKey.revoked_at.is_(None))
    )
    return key if key is not None and hmac.compare_digest(key.sha256, digest) else None


def get_api_key(session: Session, key_id: uuid.UUID) -> ApiKey | None:
    """The valid key with this id."""
    key = session.get(ApiKey, key_id)
    return key if key is not None and key.revoked_at is None else None


def api_key_exists(session: Session, key_id: uuid.UUID) -> bool:
    """Whether there is a key with this id, valid or revoked."""
    return session.get(ApiKey, key_id) is not None


def lock_api_key(session: Session, key_id: uuid.UUID) -> None:
    """Let transactions that use up a limit of this key take turns. Lock the jobs first."""
    statement = sa.select(ApiKey.id).where(ApiKey.id == key_id)
    session.execute(statement.with_for_update(key_share=True))


def allowed_sources(session: Session, key_id: uuid.UUID) -> list[str] | None:
    """The sources that a key may use; None: all that the settings allow."""
    return session.scalar(sa.select(ApiKey.sources).where(ApiKey.id == key_id))


def allowed_destinations(session: Session, key_id: uuid.UUID) -> tuple[str, ...] | None:
    """The folders that a key may write results to; None: all that the settings allow."""
    key = session.get_one(ApiKey, key_id)
    return writable_folders(key.sources, key.destinations)


def writable_folders(
    sources: Sequence[str] | None, destinations: Sequence[str] | None
) -> tuple[str, ...] | None:
    """The folders that a key with these limits may write results to: none if only its sources are
    limited; None: all that the settings allow.
    """
    if destinations is None:
        return None if sources is None else ()
    return tuple(destinations)


def list_api_keys(session: Session) -> Sequence[ApiKey]:
    """All keys, oldest first."""
    return session.scalars(sa.select(ApiKey).order_by(ApiKey.id)).all()


def revoke_api_key(session: Session, key_id: uuid.UUID) -> ApiKey | None:
    """Revoke a key; its jobs stay."""
    key = session.get(ApiKey, key_id)
    if key is not None and key.revoked_at is None:
        key.revoked_at = now(session)
        session.flush()
    return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
