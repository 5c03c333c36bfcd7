"""Counts of worker deaths for each image."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("items", sa.Column("deaths", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "jobs", sa.Column("suspect", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("suspect")
    with op.batch_alter_table("items") as items:
        items.drop_column("deaths")
