"""The tables of watches: prefixes whose new objects are cut out, and what each has seen there."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ForeignKey, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, new_id, partial_index


class Watch(Base):
    """A watched prefix of an API key. A look lists it in pages; each page is one transaction."""

    __tablename__ = "watches"
    __table_args__ = (
        partial_index("ix_watches_of_key", "api_key_id", "id", where="deleted_at IS NULL"),
        partial_index("ix_watches_due", "next_look_at", where="next_look_at IS NOT NULL"),
        partial_index("ix_watches_deleted", "id", where="deleted_at IS NOT NULL"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    prefix: Mapped[str] = mapped_column(Text)
    """`s3://bucket/prefix`."""
    options: Mapped[dict[str, Any]]
    destination: Mapped[str | None] = mapped_column(Text)
    """The `destination` of its jobs."""
    priority: Mapped[int] = mapped_column(Integer)
    labels: Mapped[dict[str, Any]]
    """The `metadata` of its jobs."""
    every_s: Mapped[int] = mapped_column(Integer)
    """Seconds from the end of a look to the next one."""
    existing: Mapped[bool] = mapped_column(Boolean)
    """Objects that were there before count as new."""
    ascending: Mapped[bool] = mapped_column(Boolean)
    """New keys sort behind all earlier ones, so a look begins behind the last one."""

    created_at: Mapped[datetime]
    paused_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    next_look_at: Mapped[datetime | None]
    """When the next page is due; None: it is paused or deleted."""
    asked_again: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """A look was asked for while one was in progress: another one follows it."""
    last_look_at: Mapped[datetime | None]
    """When the last complete look ended."""

    cursor: Mapped[str | None] = mapped_column(Text)
    """The key after which the next page begins; None: at the first one."""
    job_id: Mapped[uuid.UUID | None]
    """The job of the look in progress, or the last job. It may be deleted already."""
    listed: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    requests: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Objects and listing requests of the look in progress."""
    objects: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    look_requests: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """The same of the last complete look."""
    submitted: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    left_out: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """New objects that became images, and those that cannot be photos, of all looks."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    """Why the last look failed; None: it did not."""
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Looks that failed in a row."""


BYTE_ORDER = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that is sorted by its UTF-8 bytes, as S3 sorts keys; SQLite always does."""


class WatchedObject(Base):
    """An object that a watch has seen. Watches whose keys ascend need none."""

    __tablename__ = "watched_objects"

    watch_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("watches.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(BYTE_ORDER, primary_key=True)
    etag: Mapped[str] = mapped_column(Text)
    """Changes with the object's bytes."""
