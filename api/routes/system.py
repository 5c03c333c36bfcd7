"""/v1/system and /v1/failures: what an operator looks at; both need the scope admin."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from shared import job_store
from shared.errors import DatabaseError, QueueError, ScopeError, error_of
from shared.jobs import Scope

router = APIRouter(route_class=GuardedRoute, prefix="/v1", tags=["system"])


class LaneOut(BaseModel):
    """A queue at one priority."""

    queue: str
    lane: str = Field(examples=["express"])
    messages: int = Field(description="In Redis, received by no worker.")
    oldest_s: float


class BacklogOut(BaseModel):
    """The images of open jobs of one model and priority."""

    model: str | None = Field(description="Null: the default model.")
    priority: int
    waiting: int
    running: int
    oldest_s: float


class SystemOut(BaseModel):
    """Workers, queues and backlog, as they stand."""

    workers: list[dict[str, Any]] = Field(description="The warm workers, as they describe it.")
    queues: list[LaneOut]
    backlog: list[BacklogOut]
    images_per_s: float | None = Field(description="Of the jobs of the last days; null: none.")
    flower_url: str | None
    grafana_url: str | None


class FailureOut(BaseModel):
    """An image that failed, or a new version of one."""

    failed_at: datetime
    code: str = Field(examples=["not-an-image"])
    detail: str
    remedy: str
    item_id: uuid.UUID
    name: str
    job_id: uuid.UUID
    api_key_id: uuid.UUID
    api_key: str = Field(description="The name of the key that submitted it.")


class FailureList(BaseModel):
    """The newest failures of all API keys, newest first."""

    failures: list[FailureOut]


@router.get("/system", responses=responses(ScopeError, DatabaseError, QueueError))
async def get_system(resources: ResourcesDep, caller: CallerDep) -> SystemOut:
    """Whether workers are warm, and what waits for them."""
    caller.require(Scope.ADMIN)
    stored = await resources.facts.stored.get()
    lanes = await resources.facts.lanes.get()
    settings = resources.settings
    return SystemOut(
        workers=stored.workers,
        queues=[
            LaneOut(queue=one.queue, lane=one.name, messages=one.messages, oldest_s=one.oldest_s)
            for one in lanes
        ],
        backlog=[
            BacklogOut(
                model=one.model,
                priority=one.priority,
                waiting=one.waiting,
                running=one.running,
                oldest_s=one.oldest_s,
            )
            for one in stored.backlog
        ],
        images_per_s=await _rate(resources),
        flower_url=settings.flower_url,
        grafana_url=settings.grafana_url,
    )


async def _rate(resources: Resources) -> float | None:
    def ask() -> float | None:
        with resources.database.transaction() as session:
            rate = job_store.recent_rate(session)
        return round(rate.images_per_s, 2) if rate else None

    return await run_in_threadpool(ask)


@router.get("/failures", responses=responses(ScopeError))
def list_failures(
    resources: ResourcesDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=1_000, description="Number of the latest failures.")] = 50,
) -> FailureList:
    """The last images that failed, of all keys."""
    caller.require(Scope.ADMIN)
    with resources.database.transaction() as session:
        found = job_store.last_failures(session, limit=limit)
    failures = []
    for one in found:
        error = error_of(one.code, one.detail)
        failures.append(
            FailureOut(
                failed_at=one.failed_at,
                code=error.code,
                detail=error.detail,
                remedy=error.remedy,
                item_id=one.item_id,
                name=one.name,
                job_id=one.job_id,
                api_key_id=one.api_key_id,
                api_key=one.api_key,
            )
        )
    return FailureList(failures=failures)
