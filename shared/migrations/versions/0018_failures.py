"""An index of the failed images by time."""

from shared.migrations.online_indexes import create_index, drop_index

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_index(
        "ix_items_failures",
        "items",
        ["finished_at"],
        where="status = 'failed' AND finished_at IS NOT NULL",
    )


def downgrade() -> None:
    """Undo."""
    drop_index("ix_items_failures", "items")
