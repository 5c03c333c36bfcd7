"""Images of all jobs are found by the caller's own id: items with such an id carry the key.

Existing items get it a few jobs at a time, while the service runs.
"""

import sqlalchemy as sa
from alembic import op

from shared.migrations.online_indexes import create_index, drop_index

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NAME = "ix_items_owned_custom_id"
JOBS = 100
"""Jobs whose items are changed in one transaction."""


def upgrade() -> None:
    """Apply."""
    op.add_column("items", sa.Column("api_key_id", sa.Uuid(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            _fill(op.get_bind())
    else:
        _fill(op.get_bind())
    create_index(
        NAME,
        "items",
        ["api_key_id", "custom_id", "id"],
        where="custom_id IS NOT NULL AND api_key_id IS NOT NULL",
    )


def downgrade() -> None:
    """Undo."""
    drop_index(NAME, "items")
    with op.batch_alter_table("items") as items:
        items.drop_column("api_key_id")


def _fill(connection: sa.Connection) -> None:
    jobs = sa.table("jobs", sa.column("id", sa.Uuid()), sa.column("api_key_id", sa.Uuid()))
    items = sa.table(
        "items",
        sa.column("job_id", sa.Uuid()),
        sa.column("custom_id"),
        sa.column("api_key_id", sa.Uuid()),
    )
    owner = sa.select(jobs.c.api_key_id).where(jobs.c.id == items.c.job_id).scalar_subquery()
    last = None
    while True:
        page = sa.select(jobs.c.id).order_by(jobs.c.id).limit(JOBS)
        ids = list(connection.scalars(page if last is None else page.where(jobs.c.id > last)))
        if not ids:
            return
        connection.execute(
            sa.update(items)
            .where(items.c.job_id.in_(ids), items.c.custom_id.is_not(None))
            .values(api_key_id=owner)
        )
        last = ids[-1]
