"""The tables (SQLAlchemy 2, typed)."""

from shared.models.base import Base, UtcDateTime, new_id
from shared.models.jobs import Item, Job
from shared.models.service import ApiKey, Duty, IdempotencyKey, Usage, Worker

__all__ = [
    "ApiKey",
    "Base",
    "Duty",
    "IdempotencyKey",
    "Item",
    "Job",
    "Usage",
    "UtcDateTime",
    "Worker",
    "new_id",
]
