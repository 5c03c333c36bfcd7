"""The base of all tables: ids, UTC times, JSON, states stored as text."""

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

import uuid_utils.compat
from sqlalchemy import JSON, DateTime, Dialect, Enum, Index, TypeDecorator, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

from shared.jobs import ItemKind, ItemStatus, JobStatus, PendingChange, Verdict
from shared.webhooks import DeliveryStatus, DisabledReason, Event


def new_id() -> uuid.UUID:
    """A UUIDv7. Its order follows the time of creation, so inserts go to the end of the index."""
    return uuid_utils.compat.uuid7()


def first_id_of(moment: datetime) -> uuid.UUID:
    """A bound for ids: no id created earlier is greater, and none created later is smaller."""
    return uuid.UUID(int=int(moment.timestamp() * 1e3) << 80)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime. SQLite has no time zones: it stores naive UTC, which is read back as
    aware.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times: they usually are local times by mistake."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return every time as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _by_value(kind: type[StrEnum]) -> Enum:
    """Store an enum as its value in a VARCHAR, so a new state needs no change of a database
    type.
    """
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


Json = JSON().with_variant(JSONB(), "postgresql")
JsonOrNull = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""The same for columns whose None is asked for in SQL: it is NULL, not the JSON text `null`."""


class Base(DeclarativeBase):
    """Declarative base; migrations are compared with its metadata."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        dict[str, Any]: Json,
        list[str]: Json,
        list[dict[str, Any]]: Json,
        uuid.UUID: Uuid(),
        ItemKind: _by_value(ItemKind),
        ItemStatus: _by_value(ItemStatus),
        JobStatus: _by_value(JobStatus),
        Verdict: _by_value(Verdict),
        PendingChange: _by_value(PendingChange),
        Event: _by_value(Event),
        DeliveryStatus: _by_value(DeliveryStatus),
        DisabledReason: _by_value(DisabledReason),
    }


def partial_index(name: str, *columns: str, where: str) -> Index:
    """A partial index of the rows that satisfy `where` (SQL). Statements that should use it must
    contain the same condition as text (shared.job_store.conditions).
    """
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))
