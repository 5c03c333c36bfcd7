"""The table that finds jobs by their metadata."""

import uuid

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base

MAX_SEARCHED_CHARS = 200
"""Longest value that jobs are found by; an index entry of PostgreSQL has 2,704 bytes at most."""


class JobLabel(Base):
    """A name and its value in a job's metadata. Longer values are in the job only."""

    __tablename__ = "job_labels"
    __table_args__ = (Index("ix_job_labels_job_id", "job_id"),)

    api_key_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(MAX_SEARCHED_CHARS), primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
