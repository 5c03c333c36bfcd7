"""The tables (SQLAlchemy 2, typed)."""

from shared.models.base import Base, UtcDateTime, first_id_of, new_id
from shared.models.item_groups import ItemGroup
from shared.models.job_labels import MAX_SEARCHED_CHARS, JobLabel
from shared.models.jobs import MARK_BEGINS, Item, Job, place_of
from shared.models.result_places import ResultPlace
from shared.models.service import ApiKey, IdempotencyKey, LeaderLease, Usage, Worker
from shared.models.watches import Watch, WatchedObject
from shared.models.webhooks import Delivery, Webhook

__all__ = [
    "MARK_BEGINS",
    "MAX_SEARCHED_CHARS",
    "ApiKey",
    "Base",
    "Delivery",
    "IdempotencyKey",
    "Item",
    "ItemGroup",
    "Job",
    "JobLabel",
    "LeaderLease",
    "ResultPlace",
    "Usage",
    "UtcDateTime",
    "Watch",
    "WatchedObject",
    "Webhook",
    "Worker",
    "first_id_of",
    "new_id",
    "place_of",
]
