"""Clips: how far each has come, and what they cost."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Apply."""
    op.add_column("items", sa.Column("clip", JSON, nullable=True))
    for name in ("clip_seconds", "megapixel_frames"):
        op.add_column("usage", sa.Column(name, sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("usage") as usage:
        usage.drop_column("megapixel_frames")
        usage.drop_column("clip_seconds")
    with op.batch_alter_table("items") as items:
        items.drop_column("clip")
