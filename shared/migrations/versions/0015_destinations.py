"""Jobs write results to keys of the caller's own; keys say where they may."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("destination", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("destinations", JSON, nullable=True))
    op.create_table(
        "result_places",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "digest"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("result_places")
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_column("destinations")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("destination")
