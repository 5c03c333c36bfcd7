"""An index of the callers' own ids, so that an image of a job is found by it."""

from shared.migrations.online_indexes import create_index, drop_index

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NAME = "ix_items_custom_id"


def upgrade() -> None:
    """Apply."""
    create_index(NAME, "items", ["job_id", "custom_id", "position"], where="custom_id IS NOT NULL")


def downgrade() -> None:
    """Undo."""
    drop_index(NAME, "items")
