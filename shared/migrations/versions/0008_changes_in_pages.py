"""Changes of whole jobs in pages, and earlier vacuuming of large tables.

By default PostgreSQL vacuums a table when a fifth of its rows are dead: two million of ten. Every
batch updates its jobs' rows; if their pages have free space, such an update touches no index.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STORAGE = {
    "jobs": {
        "fillfactor": 70,
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_analyze_scale_factor": 0.02,
    },
    "items": {
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_insert_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.02,
    },
    "webhook_deliveries": {
        "autovacuum_vacuum_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.05,
    },
}


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("pending_change", sa.String(16), nullable=True))
    op.add_column(
        "jobs", sa.Column("pending_after", sa.Integer(), nullable=False, server_default="0")
    )
    if op.get_bind().dialect.name == "postgresql":
        for table, values in STORAGE.items():
            given = ", ".join(f"{name} = {value}" for name, value in values.items())
            op.execute(f"ALTER TABLE {table} SET ({given})")


def downgrade() -> None:
    """Undo."""
    if op.get_bind().dialect.name == "postgresql":
        for table, values in STORAGE.items():
            op.execute(f"ALTER TABLE {table} RESET ({', '.join(values)})")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("pending_after")
        jobs.drop_column("pending_change")
