"""An item says which model made its matte, and which one it waits for."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("items", sa.Column("forwarded_to", sa.Text(), nullable=True))
    op.add_column("items", sa.Column("matte_model", sa.Text(), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("items") as items:
        items.drop_column("matte_model")
        items.drop_column("forwarded_to")
