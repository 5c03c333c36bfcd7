"""The tables of jobs (with their counters) and items."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.jobs import ItemKind, ItemStatus, JobStatus, PendingChange, Verdict
from shared.models.base import Base, JsonOrNull, new_id, partial_index

UPLOAD_PATTERN = "%s3://%/uploads/%"
"""Pattern of texts that name an upload to this service (api.sources.source_policy)."""
NAMES_UPLOAD = f"LIKE '{UPLOAD_PATTERN}'"

MARK_BEGINS = "\n"
"""No photo's place contains it (shared.object_url, api.sources.source_policy)."""


def place_of(source: str) -> str:
    """Where the photo of an item is: its source without a mark."""
    return source.partition(MARK_BEGINS)[0]


class Job(Base):
    """A bulk job. Its counters are kept up to date, so no query counts items."""

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
        partial_index("ix_jobs_grouping", "id", where="grouping_after IS NOT NULL"),
        partial_index(
            "ix_jobs_versions", "of_job_id", "of_item_id", "id", where="of_job_id IS NOT NULL"
        ),
        partial_index(
            "ix_jobs_naming_uploads", "id", where=f"CAST(options AS TEXT) {NAMES_UPLOAD}"
        ),
        # Only on PostgreSQL. A database in SQLite is small enough to read all its jobs.
        Index("ix_jobs_source_object", text("(source ->> 'object')")).ddl_if(dialect="postgresql"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    status: Mapped[JobStatus] = mapped_column(default=JobStatus.ACCEPTED)
    priority: Mapped[int] = mapped_column(Integer, default=5)
    options: Mapped[dict[str, Any]]
    labels: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The caller's `metadata` (SQLAlchemy reserves that name)."""

    source: Mapped[dict[str, Any]]
    """The requested source, with its `kind`. Long lists of keys are stored as a file instead."""
    destination: Mapped[str | None] = mapped_column(Text)
    """The template of the keys that results are also written to (shared.destination)."""
    expansion_cursor: Mapped[str | None] = mapped_column(Text)
    """How far the source has been listed: an S3 key, or a row number."""
    expanded_at: Mapped[datetime | None]
    """When the last item of the source was stored. Until then the job cannot finish."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    """Why the source could not be listed completely, or why the job was paused."""

    failure_share: Mapped[float | None] = mapped_column(Float)
    """The job is paused when a larger share of its images fails; None: never."""
    failure_after: Mapped[int] = mapped_column(default=0, server_default="0")
    """Number of ended images after which `failure_share` is checked."""
    suspect: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """A worker died or hung while it processed this job: all its images are decoded in child
    processes.
    """
    forgiven_done: Mapped[int] = mapped_column(default=0, server_default="0")
    forgiven_failed: Mapped[int] = mapped_column(default=0, server_default="0")
    """Ended and failed images at the last resume; `failure_share` ignores them."""
    progress_told: Mapped[int] = mapped_column(default=0, server_default="0")
    """Percent of ended images at the last `job.progress` webhook."""

    total: Mapped[int] = mapped_column(default=0)
    queued: Mapped[int] = mapped_column(default=0)
    running: Mapped[int] = mapped_column(default=0)
    succeeded: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    cancelled: Mapped[int] = mapped_column(default=0)
    needs_review: Mapped[int] = mapped_column(default=0, server_default="0")
    """Succeeded images that a person should check."""
    accepted: Mapped[int] = mapped_column(default=0, server_default="0")
    rejected: Mapped[int] = mapped_column(default=0, server_default="0")
    """Images by reviewers' verdict."""
    reused: Mapped[int] = mapped_column(default=0, server_default="0")
    """Succeeded images whose result was copied from an earlier one."""

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
    """Milliseconds spent on all images, by stage (shared.jobs.STAGES)."""

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    """When its first image was claimed."""
    progressed_at: Mapped[datetime | None]
    """When the last batch was recorded."""
    finished_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """Deleted by the caller; the sweeper removes rows and objects later."""
    pending_change: Mapped[PendingChange | None]
    """A requested change that not all images have received yet. A background thread carries it out
    in pages.
    """
    pending_after: Mapped[int] = mapped_column(default=0, server_default="0")
    """The position up to which the change has been carried out."""
    grouping_after: Mapped[str | None] = mapped_column(Text)
    """Set while the job's groups are looked at (shared.job_store.groups): the name of the last
    group that was; empty at the begin.
    """
    turntables_left: Mapped[int] = mapped_column(default=0, server_default="0")
    """Turntables among the queued and running items; no quota counts them."""
    of_job_id: Mapped[uuid.UUID | None]
    of_item_id: Mapped[uuid.UUID | None]
    """Set when the job makes one version of an item's result: the item, and its job. Callers never
    see such a job (shared.job_store.versions).
    """


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
        partial_index(
            "ix_items_failures",
            "finished_at",
            where="status = 'failed' AND finished_at IS NOT NULL",
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
        partial_index(
            "ix_items_owned_custom_id",
            "api_key_id",
            "custom_id",
            "id",
            where="custom_id IS NOT NULL AND api_key_id IS NOT NULL",
        ),
        partial_index(
            "ix_items_custom_id",
            "job_id",
            "custom_id",
            "position",
            where="custom_id IS NOT NULL",
        ),
        partial_index(
            "ix_items_group", "job_id", "group_name", "position", where="group_name IS NOT NULL"
        ),
        partial_index("ix_items_uploads", "source", where=f"source {NAMES_UPLOAD}"),
        partial_index(
            "ix_items_naming_uploads", "id", where=f"CAST(options AS TEXT) {NAMES_UPLOAD}"
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    position: Mapped[int]
    """Position in the source, from 1. Pages and reports are sorted by it."""
    name: Mapped[str] = mapped_column(Text)
    """The caller's path or name of the photo."""
    source: Mapped[str] = mapped_column(Text)
    """`s3://bucket/key`, or `https://…`: a job has each only once. Where several rows share a
    photo, all but the first have a mark behind it (shared.job_store.intake); see `place`.
    """
    custom_id: Mapped[str | None] = mapped_column(Text)
    """The caller's own id of the image."""
    api_key_id: Mapped[uuid.UUID | None]
    """The job's key, of items with a `custom_id` only: they are found by both."""
    options: Mapped[dict[str, Any] | None]
    """The complete options of this image; None: the job's."""
    labels: Mapped[dict[str, Any] | None]
    """The other columns of the manifest row, returned in the report."""
    kind: Mapped[ItemKind] = mapped_column(default=ItemKind.PHOTO, server_default="photo")
    group_name: Mapped[str | None] = mapped_column(Text)
    """The group that it belongs to (shared.models.item_groups)."""
    measured: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    """What the first pass found (shared.groups.Measured): the matte is stored. None: it has not
    been there, or the item is in no group.
    """
    clip: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    """How far a clip has come (shared.clips.ClipState); of one that is done, its length and times
    of doubt (worker.video.completing.ClipResult).
    """
    status: Mapped[ItemStatus] = mapped_column(default=ItemStatus.QUEUED)

    attempts: Mapped[int] = mapped_column(default=0)
    """Number of claims. It also is the fence: only the latest claim may record a result."""
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
    """Number of worker processes that died while they held the image."""
    forwarded_to: Mapped[str | None] = mapped_column(Text)
    """The second model, on whose queue the image waits: the first result is doubtful."""
    not_before: Mapped[datetime | None]
    """When the next attempt is due, after a retryable error. shared.groups.NEVER: when its group
    lets it go on.
    """
    published_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None] = mapped_column(String(120))
    lease_expires_at: Mapped[datetime | None]

    result_key: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    outputs: Mapped[list[dict[str, Any]] | None]
    """Name, key, size, bytes and violated rules of each file, if there is more than `result_key`.
    """
    needs_review: Mapped[bool] = mapped_column(default=False)
    review_reasons: Mapped[list[str] | None]
    matte_model: Mapped[str | None] = mapped_column(Text)
    """The model that made the matte; two of them joined by `+`: both did."""
    verdict: Mapped[Verdict | None]
    verdict_note: Mapped[str | None] = mapped_column(Text)
    reviewed_at: Mapped[datetime | None]
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    """Hash of caller, photo, options and model (worker.pipeline.result_reuse)."""
    reused: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    width: Mapped[int | None]
    height: Mapped[int | None]
    input_bytes: Mapped[int | None] = mapped_column(BigInteger)
    output_bytes: Mapped[int | None] = mapped_column(BigInteger)
    result_crc32: Mapped[int | None] = mapped_column(BigInteger)
    """CRC-32 of the main file, so that a zip file of results is known before it is sent; None:
    written by an earlier version. `outputs` hold one for each file.
    """
    timings_ms: Mapped[dict[str, Any] | None]

    version: Mapped[int] = mapped_column(default=1, server_default="1")
    """The number of the version that the item shows."""
    redo: Mapped[dict[str, Any] | None]
    """The version that is being made, or the last one that failed: its `number`, `made_by` and
    `status`, and the error's `code` and `detail`.
    """

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @property
    def place(self) -> str:
        """Where the photo is."""
        return place_of(self.source)
