"""The table of the places that a job's results take in a destination."""

import uuid

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base


class ResultPlace(Base):
    """An object that an image's result is written to. No two images of a job share one."""

    __tablename__ = "result_places"

    job_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[str] = mapped_column(String(32), primary_key=True)
    """shared.destination.digest_of the object."""
    item_id: Mapped[uuid.UUID]
