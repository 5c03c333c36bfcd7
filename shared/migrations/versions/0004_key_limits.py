"""Scopes, sources, rate and quota of API keys, and their monthly usage."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Apply."""
    for name in ("scopes", "sources"):
        op.add_column("api_keys", sa.Column(name, JSON, nullable=True))
    for name in ("requests_per_min", "images_per_month"):
        op.add_column("api_keys", sa.Column(name, sa.Integer(), nullable=True))
    op.create_table(
        "usage",
        sa.Column("api_key_id", sa.Uuid(), sa.ForeignKey("api_keys.id"), primary_key=True),
        sa.Column("month", sa.String(7), primary_key=True),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("pixels", sa.BigInteger(), nullable=False),
        sa.Column("device_ms", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("usage")
    with op.batch_alter_table("api_keys") as keys:
        for name in ("scopes", "sources", "requests_per_min", "images_per_month"):
            keys.drop_column(name)
