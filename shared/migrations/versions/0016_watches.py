"""Watches: prefixes whose new objects are cut out."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BYTE_ORDER = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
COUNTERS = (
    "listed",
    "requests",
    "objects",
    "look_requests",
    "submitted",
    "left_out",
    "failures",
)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "watches",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("api_key_id", sa.Uuid(), sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("every_s", sa.Integer(), nullable=False),
        sa.Column("existing", sa.Boolean(), nullable=False),
        sa.Column("ascending", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("paused_at", TIME, nullable=True),
        sa.Column("deleted_at", TIME, nullable=True),
        sa.Column("next_look_at", TIME, nullable=True),
        sa.Column("last_look_at", TIME, nullable=True),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        *(sa.Column(name, sa.Integer(), nullable=False, server_default="0") for name in COUNTERS),
    )
    for name, columns, where in (
        ("of_key", ["api_key_id", "id"], "deleted_at IS NULL"),
        ("due", ["next_look_at"], "next_look_at IS NOT NULL"),
        ("deleted", ["id"], "deleted_at IS NOT NULL"),
    ):
        condition = sa.text(where)
        op.create_index(
            f"ix_watches_{name}",
            "watches",
            columns,
            postgresql_where=condition,
            sqlite_where=condition,
        )
    op.create_table(
        "watched_objects",
        sa.Column(
            "watch_id",
            sa.Uuid(),
            sa.ForeignKey("watches.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("key", BYTE_ORDER, primary_key=True),
        sa.Column("etag", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("watched_objects")
    op.drop_table("watches")
