"""Alembic's environment: it runs on the connection that `Database.migrate` opened."""

from alembic import context

from shared.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite can't alter a table in place
    # an index that is created online can't be part of a transaction
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
