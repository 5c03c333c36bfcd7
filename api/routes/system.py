"""/v1/system and /v1/keys: what an operator looks at; both need the scope admin."""

import uuid
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from api.http.auth import DEFAULT_SCOPES, CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from shared import job_store
from shared.errors import DatabaseError, QueueError, ScopeError
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


class KeyOut(BaseModel):
    """An API key, without its secret, of which only a hash is stored."""

    id: uuid.UUID
    name: str
    hint: str = Field(description="The first characters of the key.")
    scopes: list[Scope]
    sources: list[str] | None = Field(description="Null: all that the settings allow.")
    requests_per_min: int | None = Field(description="Null: the service's own rate.")
    images_per_month: int | None = Field(description="Null: no limit.")
    created_at: datetime
    revoked_at: datetime | None


class KeyList(BaseModel):
    """All API keys, oldest first."""

    keys: list[KeyOut]


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


@router.get("/keys", responses=responses(ScopeError))
def list_keys(resources: ResourcesDep, caller: CallerDep) -> KeyList:
    """All API keys. `matting keys` makes and revokes them."""
    caller.require(Scope.ADMIN)
    with resources.database.transaction() as session:
        keys = job_store.list_api_keys(session)
        return KeyList(
            keys=[
                KeyOut(
                    id=key.id,
                    name=key.name,
                    hint=key.hint,
                    scopes=list(DEFAULT_SCOPES)
                    if key.scopes is None
                    else list(map(Scope, key.scopes)),
                    sources=key.sources,
                    requests_per_min=key.requests_per_min,
                    images_per_month=key.images_per_month,
                    created_at=key.created_at,
                    revoked_at=key.revoked_at,
                )
                for key in keys
            ]
        )
