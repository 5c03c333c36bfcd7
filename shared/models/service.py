"""The tables around the work: API keys and what they used, live workers, known submissions."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, new_id


class ApiKey(Base):
    """A caller; what it submits is visible to it alone. Only the key's hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    hint: Mapped[str] = mapped_column(String(16))
    """The key's first characters, so that a person can tell keys apart."""
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    scopes: Mapped[list[str] | None]
    """shared.jobs.Scope; none: submit and read."""
    sources: Mapped[list[str] | None]
    """`s3://bucket/prefix/` of what it may name as a source; none: all that the settings allow."""
    requests_per_min: Mapped[int | None]
    """None: as the settings say."""
    images_per_month: Mapped[int | None]
    """None: as many as it likes."""


class Usage(Base):
    """What a key used in one calendar month (UTC): images that succeeded; errors cost nothing."""

    __tablename__ = "usage"

    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """`2026-11`."""
    images: Mapped[int] = mapped_column(BigInteger, default=0)
    pixels: Mapped[int] = mapped_column(BigInteger, default=0)
    device_ms: Mapped[float] = mapped_column(Float, default=0.0)


class Worker(Base):
    """A worker process, as it last reported itself: what readiness is read from."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    """`warm` takes work; `stopping` finishes what it has."""
    description: Mapped[dict[str, Any]]
    """The predictor's own account: model, device, configuration, shapes, seconds of warm-up."""
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]


class IdempotencyKey(Base):
    """A submission that must not be made twice."""

    __tablename__ = "idempotency_keys"

    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    """Of what was submitted under it."""
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(index=True)


class LeaderLease(Base):
    """What one process at a time does for all: it is its holder's until its lease ends."""

    __tablename__ = "duties"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(120))
    expires_at: Mapped[datetime]
