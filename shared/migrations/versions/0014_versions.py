"""Versions of a result: jobs that make one, and what an item shows of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.migrations.online_indexes import create_index, drop_index

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("of_job_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("of_item_id", sa.Uuid(), nullable=True))
    op.add_column("items", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("items", sa.Column("redo", JSON, nullable=True))
    create_index(
        "ix_jobs_versions",
        "jobs",
        ["of_job_id", "of_item_id", "id"],
        where="of_job_id IS NOT NULL",
    )


def downgrade() -> None:
    """Undo."""
    drop_index("ix_jobs_versions", "jobs")
    with op.batch_alter_table("items") as items:
        items.drop_column("redo")
        items.drop_column("version")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("of_item_id")
        jobs.drop_column("of_job_id")
