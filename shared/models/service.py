"""The tables of API keys, usage, workers, idempotency keys and leader leases."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, new_id


class ApiKey(Base):
    """An API key. Its jobs are visible to this key only. The database stores only a hash of the
    key.
    """

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    hint: Mapped[str] = mapped_column(String(16))
    """The first characters of the key, so that people can tell keys apart."""
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    scopes: Mapped[list[str] | None]
    """Values of shared.jobs.Scope; None: submit and read."""
    sources: Mapped[list[str] | None]
    """The `s3://bucket/prefix/` that the key may use as sources; None: all that the settings allow.
    """
    destinations: Mapped[list[str] | None]
    """The `s3://bucket/folder/` that the key may write results to; None: all that the settings
    allow, or none if `sources` is set.
    """
    requests_per_min: Mapped[int | None]
    """None: MATTING_REQUESTS_PER_MIN."""
    images_per_month: Mapped[int | None]
    """None: unlimited."""


class Usage(Base):
    """The usage of a key in one calendar month (UTC). Only succeeded images count."""

    __tablename__ = "usage"

    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """`2026-11`."""
    images: Mapped[int] = mapped_column(BigInteger, default=0)
    pixels: Mapped[int] = mapped_column(BigInteger, default=0)
    device_ms: Mapped[float] = mapped_column(Float, default=0.0)
    clip_seconds: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    megapixel_frames: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    """Length of the clips, and the sum of their frames' megapixels."""


class Worker(Base):
    """A worker process as it last reported itself. Readiness is computed from these rows."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    """`warm`: claims images; `stopping`: finishes the images that it holds."""
    description: Mapped[dict[str, Any]]
    """The predictor's description: model, device, configuration, shapes, seconds of warm-up."""
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]


class IdempotencyKey(Base):
    """An Idempotency-Key and the job that was submitted with it."""

    __tablename__ = "idempotency_keys"

    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the submission."""
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(index=True)


class LeaderLease(Base):
    """A lease for work that only one process at a time may do, such as reconciling."""

    __tablename__ = "duties"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(120))
    expires_at: Mapped[datetime]
