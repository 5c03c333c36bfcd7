"""Liveness, readiness and metrics."""

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.background.system_facts import Stored
from api.http.metrics import exposition
from api.resources import ResourcesDep
from api.schemas.responses import Health, Readiness
from shared.errors import MattingError

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Health:
    """Liveness: the event loop answers by itself, so a hanging service does not delay it."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready."}})
async def readyz(resources: ResourcesDep, response: Response) -> Readiness:
    """Readiness: every service answers and a warm worker is running, so a new job would be
    processed.
    """
    facts = resources.facts
    stored, lanes, storage = await asyncio.gather(
        facts.stored.get(), facts.lanes.get(), facts.storage.get(), return_exceptions=True
    )
    checks = {
        "database": _said(stored),
        "queue": _said(lanes),
        "storage": _said(storage),
    }
    workers = stored.workers if isinstance(stored, Stored) else []
    checks["worker"] = "ok" if workers else "no warm worker"
    ready = all(value == "ok" for value in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, checks=checks, workers=workers)


@router.get("/metrics", response_class=Response)
async def metrics(resources: ResourcesDep) -> Response:
    """Metrics for Prometheus."""
    return Response(await exposition(resources.facts), media_type=CONTENT_TYPE_LATEST)


def _said(answer: object) -> str:
    if isinstance(answer, MattingError):
        return f"{answer.code}: {answer.detail}"
    if isinstance(answer, BaseException):
        raise answer
    return "ok"
