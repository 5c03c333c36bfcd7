"""/v1/usage: the usage of keys by month and by job."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import ResourcesDep
from shared import job_store
from shared.errors import ScopeError
from shared.jobs import Scope

router = APIRouter(route_class=GuardedRoute, prefix="/v1/usage", tags=["usage"])


class Amount(BaseModel):
    """Usage by succeeded images; failed images cost nothing, but for the segments of a clip that
    were cut out before.
    """

    images: int
    megapixels: float = Field(description="Of the photos.")
    device_s: float = Field(description="Computing time of the network.")


class MonthUsage(Amount):
    """The usage of a key in a calendar month (UTC)."""

    month: str = Field(examples=["2026-11"])
    api_key_id: uuid.UUID
    api_key: str = Field(description="Its name.")
    clip_s: float = Field(description="Length of the clips, in seconds.")
    megapixel_frames: float = Field(description="Of the clips: megapixels of all frames.")


class JobUsage(Amount):
    """The usage of a job."""

    job_id: uuid.UUID


class UsageOut(BaseModel):
    """Months and the latest jobs, newest first."""

    images_per_month: int | None = Field(description="The key's quota; null: no limit.")
    images_left: int | None = Field(description="The rest of the quota, less images in progress.")
    months: list[MonthUsage]
    jobs: list[JobUsage] = Field(description="The key's own jobs, newest first.")


@router.get("", responses=responses(ScopeError))
def get_usage(
    resources: ResourcesDep,
    caller: CallerDep,
    every_key: Annotated[
        bool, Query(description="Usage of all keys; needs the scope admin.")
    ] = False,
    jobs: Annotated[int, Query(ge=0, le=1_000, description="Number of the latest jobs.")] = 50,
) -> UsageOut:
    """Your usage: images, megapixels, device seconds."""
    if every_key:
        caller.require(Scope.ADMIN)
    with resources.database.transaction() as session:
        names = {caller.api_key_id: caller.name}
        if every_key:
            names = {key.id: key.name for key in job_store.list_api_keys(session)}
        months = job_store.usage_of(session, list(names))
        latest = job_store.list_jobs(session, api_key_id=caller.api_key_id, before=None, limit=jobs)
        left = job_store.images_left(session, caller.api_key_id)
    return UsageOut(
        images_per_month=caller.images_per_month,
        images_left=left,
        months=[
            MonthUsage(
                month=row.month,
                api_key_id=row.api_key_id,
                api_key=names[row.api_key_id],
                images=row.images,
                megapixels=round(row.pixels / 1e6, 3),
                device_s=round(row.device_ms / 1e3, 3),
                clip_s=round(row.clip_seconds, 3),
                megapixel_frames=round(row.megapixel_frames, 3),
            )
            for row in months
        ],
        jobs=[
            JobUsage(
                job_id=job.id,
                images=job.succeeded,
                megapixels=round(job.pixels / 1e6, 3),
                device_s=round(job.predict_ms / 1e3, 3),
            )
            for job in latest
        ],
    )
