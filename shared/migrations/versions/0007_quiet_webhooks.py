"""The end of a webhook's quiet time (`Retry-After`)."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("webhooks", sa.Column("quiet_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("webhooks") as webhooks:
        webhooks.drop_column("quiet_until")
