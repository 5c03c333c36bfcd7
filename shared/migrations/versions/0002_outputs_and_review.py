"""Outputs of images, review marks and verdicts, and the reuse of earlier results."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.models import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")

COUNTERS = ("needs_review", "accepted", "rejected", "reused")


def upgrade() -> None:
    """Apply."""
    for name in COUNTERS:
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("items", sa.Column("outputs", JSON, nullable=True))
    op.add_column("items", sa.Column("review_reasons", JSON, nullable=True))
    op.add_column("items", sa.Column("verdict", sa.String(length=16), nullable=True))
    op.add_column("items", sa.Column("verdict_note", sa.Text(), nullable=True))
    op.add_column("items", sa.Column("reviewed_at", UtcDateTime(), nullable=True))
    op.add_column("items", sa.Column("fingerprint", sa.String(length=64), nullable=True))
    op.add_column(
        "items", sa.Column("reused", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_index(
        "ix_items_fingerprint",
        "items",
        ["fingerprint"],
        postgresql_where=sa.text("status = 'succeeded' AND fingerprint IS NOT NULL"),
        sqlite_where=sa.text("status = 'succeeded' AND fingerprint IS NOT NULL"),
    )
    op.create_index(
        "ix_items_review",
        "items",
        ["job_id", "position"],
        postgresql_where=sa.text("needs_review"),
        sqlite_where=sa.text("needs_review"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_items_review", "items")
    op.drop_index("ix_items_fingerprint", "items")
    with op.batch_alter_table("items") as items:
        for name in (
            "outputs",
            "review_reasons",
            "verdict",
            "verdict_note",
            "reviewed_at",
            "fingerprint",
            "reused",
        ):
            items.drop_column(name)
    with op.batch_alter_table("jobs") as jobs:
        for name in COUNTERS:
            jobs.drop_column(name)
