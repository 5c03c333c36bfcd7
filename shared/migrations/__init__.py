"""Alembic migrations; each suits the code before it and the code after it."""
