"""/v1/jobs/{id}: cancel, pause, resume, retry, delete."""

import uuid
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from api.http.auth import Caller, CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from api.routes.lookup import find_job
from api.schemas.requests import RetryRequest
from api.schemas.responses import JobOut, RetriedJob
from api.submissions.intake import publish
from api.submissions.redo import redo_rejected
from api.submissions.restore import check_destination_of
from shared import job_store
from shared.database import Session
from shared.errors import (
    DestinationCollisionError,
    ForbiddenDestinationError,
    ForbiddenSourceError,
    InvalidOptionsError,
    JobChangingError,
    JobNotFoundError,
    QuotaExceededError,
    UnknownModelError,
)
from shared.models import Job

router = APIRouter(route_class=GuardedRoute, prefix="/v1/jobs/{job_id}", tags=["jobs"])


@router.post("/cancel", responses=responses(JobNotFoundError))
def cancel_job(job_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> JobOut:
    """Cancel a job. Images that have not started are skipped."""
    return _change(job_store.cancel_job, resources, caller, job_id)


@router.post("/pause", responses=responses(JobNotFoundError))
def pause_job(job_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> JobOut:
    """Pause a job. Images that have not started wait until it is resumed."""
    return _change(job_store.pause_job, resources, caller, job_id)


@router.post("/resume", responses=responses(JobNotFoundError))
def resume_job(job_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> JobOut:
    """Resume a paused job, also one that was paused because too many images failed."""
    return _change(job_store.resume_job, resources, caller, job_id)


PUBLISHED_AT_ONCE = 8
"""New versions that the request publishes; the reconciler publishes the others in a moment."""


@router.post(
    "/retry",
    responses=responses(
        DestinationCollisionError,
        ForbiddenDestinationError,
        ForbiddenSourceError,
        InvalidOptionsError,
        JobChangingError,
        JobNotFoundError,
        QuotaExceededError,
        UnknownModelError,
    ),
)
def retry_job(
    job_id: uuid.UUID,
    resources: ResourcesDep,
    caller: CallerDep,
    include: Annotated[
        Literal["rejected"] | None,
        Query(
            description="`rejected`: also make the images again whose verdict is `reject`, as "
            "`POST /v1/items/{id}/redo` does. The body may change their options."
        ),
    ] = None,
    body: RetryRequest | None = None,
) -> RetriedJob:
    """Try the failed images of a job again; `retried` says how many. They count like newly
    submitted images: each success uses the monthly quota, and all of them must fit into the rest
    of it. With `include=rejected` the rejected ones are made again too, and `redone` says how many.
    """
    changes = {} if body is None else body.changes
    if changes and include is None:
        raise InvalidOptionsError(
            "Options can be changed for rejected images only: add ?include=rejected."
        )
    failed = find_job(resources, caller, job_id).failed
    if include is not None:
        # before the transaction: in SQLite one cannot begin within another
        check_destination_of(resources, caller, job_id)
    begun: list[uuid.UUID] = []
    left = 0
    with resources.database.transaction() as session:
        count = job_store.count_retryable(session, job_id)
        job = job_store.retry_failed(session, job_id)
        if include is not None:
            begun, left = redo_rejected(resources, caller, session, job_id, changes)
    if job.pending_change is not None:
        resources.changer.wake()
    for made in begun[:PUBLISHED_AT_ONCE]:
        publish(resources, made)
    answer = RetriedJob.of(job)
    answer.retried = count if count < job_store.MOST_COUNTED else failed
    answer.redone, answer.rejected_left = len(begun), left
    return answer


@router.delete("", status_code=204, responses=responses(JobNotFoundError))
def delete_job(job_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> None:
    """Delete a job with its results and uploads. It disappears at once; its files are deleted soon
    after.
    """
    find_job(resources, caller, job_id)
    with resources.database.transaction() as session:
        job_store.delete_job(session, job_id)
    resources.sweeper.wake()


def _change(
    change: Callable[[Session, uuid.UUID], Job],
    resources: Resources,
    caller: Caller,
    job_id: uuid.UUID,
) -> JobOut:
    find_job(resources, caller, job_id)
    with resources.database.transaction() as session:
        job = change(session, job_id)
    if job.pending_change is not None:
        resources.changer.wake()
    return JobOut.of(job)
