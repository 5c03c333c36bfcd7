"""The pages of jobs: the list, and one job. Each reads through the endpoints of the public API."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.console.page_route import PageRoute
from api.console.rendering import page
from api.http.auth import CallerDep
from api.resources import Resources, ResourcesDep
from api.routes.jobs import newest_jobs, state_of_job
from api.routes.result_links import job_filename
from api.schemas.responses import JobOut
from shared.jobs import ENDED, JobStatus, Reason
from shared.presets import Preset

router = APIRouter(route_class=PageRoute, prefix="/console", include_in_schema=False)

JOBS_PER_PAGE = 25

Cursor = Annotated[str | None, Query()]


@router.get("/jobs")
def jobs(
    request: Request, resources: ResourcesDep, caller: CallerDep, cursor: Cursor = None
) -> Response:
    """The newest jobs."""
    found = newest_jobs(resources, caller, cursor, JOBS_PER_PAGE)
    return page(
        request, resources, "jobs.html", listened=_listened(found.jobs), found=found, cursor=cursor
    )


@router.get("/jobs/rows")
def job_rows(
    request: Request, resources: ResourcesDep, caller: CallerDep, cursor: Cursor = None
) -> Response:
    """The table of the list alone; the page asks for it again while jobs are open."""
    found = newest_jobs(resources, caller, cursor, JOBS_PER_PAGE)
    return page(
        request,
        resources,
        "jobs_table.html",
        listened=_listened(found.jobs),
        found=found,
        cursor=cursor,
    )


def _listened(shown: list[JobOut]) -> uuid.UUID | None:
    """The job whose events the page receives by SSE. A browser opens only six connections to a
    host, so the page polls for the other jobs.
    """
    return next((job.id for job in shown if job.status not in ENDED), None)


@router.get("/jobs/{job_id}")
def job(
    request: Request, resources: ResourcesDep, caller: CallerDep, job_id: uuid.UUID
) -> Response:
    """One job with its images."""
    return _job_page(request, resources, "job.html", state_of_job(job_id, resources, caller))


@router.get("/jobs/{job_id}/head")
def job_head(
    request: Request, resources: ResourcesDep, caller: CallerDep, job_id: uuid.UUID
) -> Response:
    """The state of a job alone; the page asks for it when an event says that it changed."""
    return _job_page(request, resources, "job_head.html", state_of_job(job_id, resources, caller))


@router.get("/jobs/{job_id}/review")
def review(
    request: Request, resources: ResourcesDep, caller: CallerDep, job_id: uuid.UUID
) -> Response:
    """One photo of a job after the other."""
    return _job_page(request, resources, "review.html", state_of_job(job_id, resources, caller))


def _job_page(request: Request, resources: Resources, template: str, job: JobOut) -> Response:
    return page(
        request,
        resources,
        template,
        job=job,
        file_name=job_filename(job.id, job.metadata),
        ended=job.status in ENDED,
        filter_counts=_filter_counts(job),
        paused=job.status is JobStatus.PAUSED,
        reasons=[reason.value for reason in Reason],
        models=resources.settings.second_models,
        presets=[preset.value for preset in Preset],
    )


def _filter_counts(job: JobOut) -> dict[str, int]:
    """How many images each value of the filter shows; `""`: all."""
    counts = job.counts
    return {
        "": counts.total,
        "status=queued": counts.queued,
        "status=running": counts.running,
        "status=succeeded": counts.succeeded,
        "status=failed": counts.failed,
        "status=cancelled": counts.cancelled,
        "review=flagged": job.review.needs_review,
        "review=accepted": job.review.accepted,
        "review=rejected": job.review.rejected,
    }
