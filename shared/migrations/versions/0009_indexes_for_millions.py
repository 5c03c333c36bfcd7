"""Indexes that keep queries from reading whole tables of millions of rows.

They are created while the service runs. The previous version's code works with them: where one of
its indexes is dropped, another index serves the same query.
"""

import sqlalchemy as sa
from alembic import op

from shared.migrations.online_indexes import create_index, drop_index

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UPLOAD = "LIKE '%s3://%/uploads/%'"
QUEUED = "status = 'queued' AND published_at"

NEW: list[tuple[str, str, list[str], str | None]] = [
    ("ix_jobs_listed", "jobs", ["api_key_id", "id"], "deleted_at IS NULL"),
    ("ix_jobs_unended", "jobs", ["api_key_id"], "status IN ('accepted', 'running', 'paused')"),
    ("ix_jobs_unexpanded", "jobs", ["id"], "expanded_at IS NULL"),
    ("ix_jobs_ended", "jobs", ["finished_at"], "finished_at IS NOT NULL AND deleted_at IS NULL"),
    ("ix_jobs_changing", "jobs", ["id"], "pending_change IS NOT NULL"),
    ("ix_jobs_naming_uploads", "jobs", ["id"], f"CAST(options AS TEXT) {UPLOAD}"),
    ("ix_items_fresh", "items", ["job_id", "position"], f"{QUEUED} IS NULL AND not_before IS NULL"),
    (
        "ix_items_due_again",
        "items",
        ["job_id", "not_before"],
        f"{QUEUED} IS NULL AND not_before IS NOT NULL",
    ),
    ("ix_items_on_queue", "items", ["job_id"], f"{QUEUED} IS NOT NULL"),
    ("ix_items_retryable", "items", ["job_id", "position"], "status = 'failed' AND attempts > 0"),
    (
        "ix_items_results",
        "items",
        ["fingerprint", "id"],
        "status = 'succeeded' AND fingerprint IS NOT NULL",
    ),
    (
        "ix_items_review_pending",
        "items",
        ["job_id", "position"],
        "needs_review AND verdict IS NULL",
    ),
    ("ix_items_verdict", "items", ["job_id", "verdict", "position"], "verdict IS NOT NULL"),
    ("ix_items_uploads", "items", ["source"], f"source {UPLOAD}"),
    ("ix_items_naming_uploads", "items", ["id"], f"CAST(options AS TEXT) {UPLOAD}"),
    (
        "ix_webhook_deliveries_pending",
        "webhook_deliveries",
        ["webhook_id", "next_attempt_at", "id"],
        "status = 'pending'",
    ),
    (
        "ix_webhook_deliveries_undelivered",
        "webhook_deliveries",
        ["api_key_id", "status", "id"],
        "status <> 'delivered'",
    ),
    (
        "ix_webhook_deliveries_undelivered_to",
        "webhook_deliveries",
        ["webhook_id", "status", "id"],
        "status <> 'delivered'",
    ),
    ("ix_idempotency_keys_job_id", "idempotency_keys", ["job_id"], None),
]

OLD: list[tuple[str, str, list[str], str | None]] = [
    ("ix_jobs_listing", "jobs", ["api_key_id", "id"], None),
    ("ix_items_unpublished", "items", ["job_id", "position"], f"{QUEUED} IS NULL"),
    (
        "ix_items_fingerprint",
        "items",
        ["fingerprint"],
        "status = 'succeeded' AND fingerprint IS NOT NULL",
    ),
    ("ix_webhook_deliveries_due", "webhook_deliveries", ["next_attempt_at"], "status = 'pending'"),
]

SOURCE_OBJECT = "ix_jobs_source_object"


def upgrade() -> None:
    """Apply."""
    for name, table, columns, where in NEW:
        create_index(name, table, columns, where=where)
    if op.get_bind().dialect.name == "postgresql":
        create_index(SOURCE_OBJECT, "jobs", [sa.text("(source ->> 'object')")])
    for name, table, *_ in OLD:
        drop_index(name, table)


def downgrade() -> None:
    """Undo."""
    for name, table, columns, where in OLD:
        create_index(name, table, columns, where=where)
    drop_index(SOURCE_OBJECT, "jobs")
    for name, table, *_ in NEW:
        drop_index(name, table)
