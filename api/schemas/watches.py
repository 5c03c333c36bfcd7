"""The bodies of requests and responses about watches."""

import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.requests import MAX_METADATA_KEYS, MetadataName, MetadataText
from api.schemas.responses import ErrorWithRemedy
from api.schemas.sources import Key
from shared import job_store
from shared.destination import DestinationTemplate
from shared.models import Watch
from shared.options import Options


class WatchRequest(BaseModel):
    """A prefix whose new objects are cut out."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prefix": "s3://matting/inbox/", "options": {"format": "png"}, "every_s": 60}
            ]
        },
    )

    prefix: Key = Field(
        description="`s3://bucket/prefix` or `bucket/prefix`, in a bucket that jobs may read "
        "too. A prefix without a bucket's name lies in the service's own bucket.",
        examples=["s3://photos/inbox/"],
    )
    options: Options = Field(default_factory=Options)
    destination: DestinationTemplate | None = Field(
        None,
        description="Also write each result to a key of your own, as with a job. It must not lie "
        "in the watched prefix: a result there would be cut out again.",
        examples=["s3://shop/cutouts/{path}.{ext}"],
    )
    priority: int = Field(5, ge=0, le=9, description="9 is the most urgent.")
    metadata: dict[MetadataName, MetadataText] = Field(
        default_factory=dict,
        max_length=MAX_METADATA_KEYS - 1,
        description="Your own names and values, for each job of the watch. The service adds "
        "`watch` with the watch's id.",
    )
    every_s: int = Field(
        60,
        ge=1,
        le=86_400,
        description="Seconds from one look to the next. The service has a lower limit, 10 unless "
        "the operator has set another one.",
    )
    existing: bool = Field(
        False,
        description="Also cut out the objects that are there already: those written more than a "
        "minute before the watch was made.",
    )
    ascending: bool = Field(
        False,
        description="New keys sort behind all earlier ones, as with dates in their names. Then a "
        "look needs one request, and the prefix may hold any number of objects; objects that "
        "change, or whose key sorts before an earlier one, are not noticed.",
    )


class WatchCounts(BaseModel):
    """Numbers of objects."""

    objects: int = Field(description="Found by the last complete look.")
    submitted: int = Field(description="Became images of jobs, since the watch was made.")
    left_out: int = Field(
        description="New ones that can be no photo: system files, empty files, other file types."
    )


class WatchOut(BaseModel):
    """A watch and what it does."""

    id: uuid.UUID
    prefix: str
    status: Literal["active", "paused", "failing"] = Field(
        description="`failing`: the last look failed, see `error`; it is repeated by itself."
    )
    error: ErrorWithRemedy | None = Field(
        description="Why the last look failed, such as `source-not-found`, `source-denied`, "
        "`quota-exceeded` or `watch-too-large`."
    )
    counts: WatchCounts
    requests_per_hour: float = Field(
        description="Listing requests to the storage, as many as the last complete look needed."
    )
    last_job_id: uuid.UUID | None = Field(description="The last job. It may be deleted already.")
    jobs: str = Field(description="Address of the list of its jobs, newest first.")
    options: Options
    destination: str | None
    priority: int
    metadata: dict[str, Any]
    every_s: int
    existing: bool
    ascending: bool
    created_at: datetime
    last_look_at: datetime | None = Field(description="When the last complete look ended.")
    next_look_at: datetime | None

    @classmethod
    def of(cls, watch: Watch) -> "WatchOut":
        """Make it from a database row."""
        failed = watch.error_code is not None
        return cls(
            id=watch.id,
            prefix=watch.prefix,
            status="paused" if watch.paused_at else "failing" if failed else "active",
            error=ErrorWithRemedy(code=watch.error_code, detail=watch.error_detail or "")
            if watch.error_code is not None
            else None,
            counts=WatchCounts(
                objects=watch.objects, submitted=watch.submitted, left_out=watch.left_out
            ),
            requests_per_hour=round(max(1, watch.look_requests) * 3_600 / watch.every_s, 1),
            last_job_id=watch.job_id,
            jobs=f"/v1/jobs?metadata={job_store.WATCH_KIND}%3D{watch.id}",
            options=Options.model_validate(watch.options),
            destination=watch.destination,
            priority=watch.priority,
            metadata=watch.labels,
            every_s=watch.every_s,
            existing=watch.existing,
            ascending=watch.ascending,
            created_at=watch.created_at,
            last_look_at=watch.last_look_at,
            next_look_at=watch.next_look_at,
        )


class WatchList(BaseModel):
    """Watches, oldest first."""

    watches: list[WatchOut]
