"""Whether the service lives, whether it would do a job, and its metrics."""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.http.metrics import exposition
from api.resources import ResourcesDep
from api.schemas.responses import Health, Readiness
from shared import job_store
from shared.errors import MattingError
from shared.queue import queue_depth

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready."}})
def readyz(resources: ResourcesDep, response: Response) -> Readiness:
    """Every part answers and a warm worker takes work: a job submitted now would be done."""
    checks: dict[str, str] = {}
    workers: list[dict[str, Any]] = []

    def live_workers() -> None:
        with resources.database.transaction() as session:
            live = job_store.live_workers(session, stale_s=resources.settings.worker_stale_s)
        workers.extend({"id": worker.id, **worker.description} for worker in live)

    def queue() -> None:
        queue_depth(resources.queue)

    for name, check in (
        ("database", live_workers),
        ("queue", queue),
        ("storage", resources.storage.ping),
    ):
        try:
            check()
            checks[name] = "ok"
        except MattingError as error:
            checks[name] = f"{error.code}: {error.detail}"
    checks["worker"] = "ok" if workers else "no warm worker"
    ready = all(value == "ok" for value in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, checks=checks, workers=workers)


@router.get("/metrics", response_class=Response)
def metrics(resources: ResourcesDep) -> Response:
    """For Prometheus."""
    return Response(exposition(resources), media_type=CONTENT_TYPE_LATEST)
