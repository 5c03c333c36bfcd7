"""Jobs are found by their metadata: a table of names and values, filled from the jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MAX_CHARS = 200


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "job_labels",
        sa.Column("api_key_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(MAX_CHARS), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("api_key_id", "name", "value", "job_id"),
    )
    op.create_index("ix_job_labels_job_id", "job_labels", ["job_id"])
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    each = "jsonb_each_text" if connection.dialect.name == "postgresql" else "json_each"
    connection.exec_driver_sql(
        "INSERT INTO job_labels (api_key_id, name, value, job_id) "  # noqa: S608
        f"SELECT api_key_id, label.key, label.value, jobs.id FROM jobs, {each}(jobs.labels) label "
        f"WHERE length(label.value) <= {MAX_CHARS} AND length(label.key) <= 64"
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("job_labels")
