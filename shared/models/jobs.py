"""The tables of the work: jobs with their counters, and their items."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.jobs import ItemStatus, JobStatus, PendingChange, Verdict
from shared.models.base import Base, new_id, partial_index

UPLOAD_PATTERN = "%s3://%/uploads/%"
"""What a text is like that names something which was uploaded here (api.sources.source_policy)."""
NAMES_UPLOAD = f"LIKE '{UPLOAD_PATTERN}'"


class Job(Base):
    """A bulk job, with its counters: nobody counts rows."""

    __tablename__ = "jobs"
    __table_args__ = (
        partial_index("ix_jobs_listed", "api_key_id", "id", where="deleted_at IS NULL"),
        partial_index("ix_jobs_open", "id", where="status IN ('accepted', 'running')"),
        partial_index(
            "ix_jobs_unended", "api_key_id", where="status IN ('accepted', 'running', 'paused')"
        ),
        partial_index("ix_jobs_unexpanded", "id", where="expanded_at IS NULL"),
        partial_index(
            "ix_jobs_ended", "finished_at", where="finished_at IS NOT NULL AND deleted_at IS NULL"
        ),
        partial_index("ix_jobs_deleted", "deleted_at", where="deleted_at IS NOT NULL"),
        partial_index("ix_jobs_changing", "id", where="pending_change IS NOT NULL"),
        partial_index(
            "ix_jobs_naming_uploads", "id", where=f"CAST(options AS TEXT) {NAMES_UPLOAD}"
        ),
        # SQLite keeps one of its own small: there all jobs are looked at.
        Index("ix_jobs_source_object", text("(source ->> 'object')")).ddl_if(dialect="postgresql"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    status: Mapped[JobStatus] = mapped_column(default=JobStatus.ACCEPTED)
    priority: Mapped[int] = mapped_column(Integer, default=5)
    options: Mapped[dict[str, Any]]
    labels: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The caller's own `metadata` (a name that SQLAlchemy keeps for itself)."""

    source: Mapped[dict[str, Any]]
    """What was asked for, with `kind`; long lists of keys are not repeated here."""
    expansion_cursor: Mapped[str | None] = mapped_column(Text)
    """How far the source has been listed: an S3 key, or a row number."""
    expanded_at: Mapped[datetime | None]
    """When every item of the source was stored; until then the job can't finish."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    """Why the source could not be listed to its end, or why the job was stopped."""

    failure_share: Mapped[float | None] = mapped_column(Float)
    """The job is paused when more than this share of its images failed; none: never."""
    failure_after: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many images must be settled before that is looked at."""
    suspect: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """One of its images ended a worker, or hung: all are decoded in processes of their own."""
    forgiven_done: Mapped[int] = mapped_column(default=0, server_default="0")
    forgiven_failed: Mapped[int] = mapped_column(default=0, server_default="0")
    """Settled and failed when it was last resumed: those no longer count for it."""
    progress_told: Mapped[int] = mapped_column(default=0, server_default="0")
    """Percent settled when webhooks were last told of progress."""

    total: Mapped[int] = mapped_column(default=0)
    queued: Mapped[int] = mapped_column(default=0)
    running: Mapped[int] = mapped_column(default=0)
    succeeded: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    cancelled: Mapped[int] = mapped_column(default=0)
    needs_review: Mapped[int] = mapped_column(default=0, server_default="0")
    """Succeeded images that a person should look at."""
    accepted: Mapped[int] = mapped_column(default=0, server_default="0")
    rejected: Mapped[int] = mapped_column(default=0, server_default="0")
    """Reviewers' verdicts."""
    reused: Mapped[int] = mapped_column(default=0, server_default="0")
    """Succeeded images whose result was there already."""

    pixels: Mapped[int] = mapped_column(BigInteger, default=0)
    input_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    output_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    fetch_ms: Mapped[float] = mapped_column(Float, default=0.0)
    decode_ms: Mapped[float] = mapped_column(Float, default=0.0)
    predict_ms: Mapped[float] = mapped_column(Float, default=0.0)
    finish_ms: Mapped[float] = mapped_column(Float, default=0.0)
    encode_ms: Mapped[float] = mapped_column(Float, default=0.0)
    store_ms: Mapped[float] = mapped_column(Float, default=0.0)
    record_ms: Mapped[float] = mapped_column(Float, default=0.0)
    """Milliseconds of all its images, stage by stage (shared.jobs.STAGES)."""

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    """When its first image was claimed."""
    progressed_at: Mapped[datetime | None]
    """When the last batch was recorded."""
    finished_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """Gone for its caller; rows and objects follow."""
    pending_change: Mapped[PendingChange | None]
    """What was asked for and its images do not show yet: a background round carries it out."""
    pending_after: Mapped[int] = mapped_column(default=0, server_default="0")
    """The position up to which it is carried out."""


class Item(Base):
    """One image of a job."""

    __tablename__ = "items"
    __table_args__ = (
        Index("uq_items_source", "job_id", "source", unique=True),
        Index("ix_items_position", "job_id", "position", unique=True),
        Index("ix_items_status", "job_id", "status", "position"),
        partial_index(
            "ix_items_fresh",
            "job_id",
            "position",
            where="status = 'queued' AND published_at IS NULL AND not_before IS NULL",
        ),
        partial_index(
            "ix_items_due_again",
            "job_id",
            "not_before",
            where="status = 'queued' AND published_at IS NULL AND not_before IS NOT NULL",
        ),
        partial_index(
            "ix_items_on_queue", "job_id", where="status = 'queued' AND published_at IS NOT NULL"
        ),
        partial_index(
            "ix_items_published",
            "published_at",
            "job_id",
            where="status = 'queued' AND published_at IS NOT NULL",
        ),
        partial_index(
            "ix_items_retryable", "job_id", "position", where="status = 'failed' AND attempts > 0"
        ),
        partial_index("ix_items_leases", "lease_expires_at", where="status = 'running'"),
        partial_index(
            "ix_items_results",
            "fingerprint",
            "id",
            where="status = 'succeeded' AND fingerprint IS NOT NULL",
        ),
        partial_index("ix_items_review", "job_id", "position", where="needs_review"),
        partial_index(
            "ix_items_review_pending",
            "job_id",
            "position",
            where="needs_review AND verdict IS NULL",
        ),
        partial_index(
            "ix_items_verdict", "job_id", "verdict", "position", where="verdict IS NOT NULL"
        ),
        partial_index("ix_items_uploads", "source", where=f"source {NAMES_UPLOAD}"),
        partial_index(
            "ix_items_naming_uploads", "id", where=f"CAST(options AS TEXT) {NAMES_UPLOAD}"
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    position: Mapped[int]
    """Counts from 1 in the order of the source: what pages and reports are sorted by."""
    name: Mapped[str] = mapped_column(Text)
    """The path that the caller knows it by."""
    source: Mapped[str] = mapped_column(Text)
    """`s3://bucket/key`, or `https://…`."""
    custom_id: Mapped[str | None] = mapped_column(Text)
    """What the caller calls it."""
    options: Mapped[dict[str, Any] | None]
    """This image's own, whole; none: the job's."""
    labels: Mapped[dict[str, Any] | None]
    """The manifest's other columns, given back in the report."""
    status: Mapped[ItemStatus] = mapped_column(default=ItemStatus.QUEUED)

    attempts: Mapped[int] = mapped_column(default=0)
    """How often it was claimed; also the fence: only the latest claim may record a result."""
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often its worker was gone before a word of it."""
    not_before: Mapped[datetime | None]
    """After an error worth another try: when that try is due."""
    published_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None] = mapped_column(String(120))
    lease_expires_at: Mapped[datetime | None]

    result_key: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    outputs: Mapped[list[dict[str, Any]] | None]
    """Name, key, size, bytes and unmet rules of each file, where there is more to tell than
    `result_key` does."""
    needs_review: Mapped[bool] = mapped_column(default=False)
    review_reasons: Mapped[list[str] | None]
    verdict: Mapped[Verdict | None]
    verdict_note: Mapped[str | None] = mapped_column(Text)
    reviewed_at: Mapped[datetime | None]
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    """Of caller, photo, options and model (worker.pipeline.result_reuse)."""
    reused: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    width: Mapped[int | None]
    height: Mapped[int | None]
    input_bytes: Mapped[int | None] = mapped_column(BigInteger)
    output_bytes: Mapped[int | None] = mapped_column(BigInteger)
    timings_ms: Mapped[dict[str, Any] | None]

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
