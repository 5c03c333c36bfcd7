"""How Alembic meets the database: on the connection that `Database.migrate` opened."""

from alembic import context

from shared.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite can't alter a table in place
    transaction_per_migration=True,  # an index that is made online is no part of a transaction
)
with context.begin_transaction():
    context.run_migrations()
