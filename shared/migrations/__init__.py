"""Alembic migrations. Each works with the code before it and the code after it."""
