"""The table of groups: photos of a job that get one common frame."""

import uuid
from typing import Any

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, JsonOrNull


class ItemGroup(Base):
    """A group of a job's photos."""

    __tablename__ = "item_groups"

    job_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    members: Mapped[int] = mapped_column(default=0)
    """Photos that were listed, with those that failed at once."""
    frame: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    """The common frame (shared.groups.GroupFrame); None: not all photos are measured."""
