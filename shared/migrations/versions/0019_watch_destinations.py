"""Watches have a destination, and can be asked for a look."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("watches", sa.Column("destination", sa.Text()))
    op.add_column(
        "watches",
        sa.Column("asked_again", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_column("watches", "asked_again")
    op.drop_column("watches", "destination")
