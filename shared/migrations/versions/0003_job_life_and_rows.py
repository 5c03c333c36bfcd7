"""Rows of manifests, paused and deleted jobs, the failure threshold, idempotency keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.models import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")

COUNTS = ("failure_after", "forgiven_done", "forgiven_failed")
ROWS = ("custom_id", "options", "labels")


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("failure_share", sa.Float(), nullable=True))
    for name in COUNTS:
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("deleted_at", UtcDateTime(), nullable=True))
    op.create_index(
        "ix_jobs_deleted",
        "jobs",
        ["deleted_at"],
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.add_column("items", sa.Column("custom_id", sa.Text(), nullable=True))
    op.add_column("items", sa.Column("options", JSON, nullable=True))
    op.add_column("items", sa.Column("labels", JSON, nullable=True))
    op.create_table(
        "idempotency_keys",
        sa.Column("api_key_id", sa.Uuid(), sa.ForeignKey("api_keys.id"), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column(
            "job_id", sa.Uuid(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "duties",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(120), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("duties")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_jobs_deleted", "jobs")
    with op.batch_alter_table("items") as items:
        for name in ROWS:
            items.drop_column(name)
    with op.batch_alter_table("jobs") as jobs:
        for name in ("failure_share", *COUNTS, "deleted_at"):
            jobs.drop_column(name)
