"""API keys: made, found by what a caller sends, listed, revoked. Only their SHA-256 is kept."""

import hashlib
import secrets
import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import now
from shared.models import ApiKey

KEY_PREFIX = "mtk_"
"""Marks our keys, so that scanners for leaked secrets can find them."""


def create_api_key(session: Session, name: str) -> tuple[ApiKey, str]:
    """Make a key; the secret (256 random bits, so a plain hash is enough) is seen here only."""
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(name=name, hint=secret[:10], sha256=_digest(secret), created_at=now(session))
    session.add(key)
    session.flush()
    return key, secret


def find_api_key(session: Session, secret: str) -> ApiKey | None:
    """The valid key behind a secret. The look-up is by hash: its time tells nothing of the key."""
    return session.scalar(
        sa.select(ApiKey).where(ApiKey.sha256 == _digest(secret), ApiKey.revoked_at.is_(None))
    )


def list_api_keys(session: Session) -> Sequence[ApiKey]:
    """All keys, oldest first."""
    return session.scalars(sa.select(ApiKey).order_by(ApiKey.id)).all()


def revoke_api_key(session: Session, key_id: uuid.UUID) -> ApiKey | None:
    """Make a key useless from now on; its jobs stay."""
    key = session.get(ApiKey, key_id)
    if key is not None and key.revoked_at is None:
        key.revoked_at = now(session)
        session.flush()
    return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
