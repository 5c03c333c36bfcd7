"""Groups of photos with one common frame."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.migrations.online_indexes import create_index, drop_index

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "item_groups",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("members", sa.Integer(), nullable=False),
        sa.Column("frame", JSON, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name"),
    )
    op.add_column("jobs", sa.Column("grouping_after", sa.Text(), nullable=True))
    op.add_column(
        "jobs", sa.Column("turntables_left", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("items", sa.Column("kind", sa.String(16), nullable=False, server_default="photo"))
    op.add_column("items", sa.Column("group_name", sa.Text(), nullable=True))
    op.add_column("items", sa.Column("measured", JSON, nullable=True))
    create_index("ix_jobs_grouping", "jobs", ["id"], where="grouping_after IS NOT NULL")
    create_index(
        "ix_items_group",
        "items",
        ["job_id", "group_name", "position"],
        where="group_name IS NOT NULL",
    )


def downgrade() -> None:
    """Undo."""
    drop_index("ix_items_group", "items")
    drop_index("ix_jobs_grouping", "jobs")
    with op.batch_alter_table("items") as items:
        items.drop_column("measured")
        items.drop_column("group_name")
        items.drop_column("kind")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("turntables_left")
        jobs.drop_column("grouping_after")
    op.drop_table("item_groups")
