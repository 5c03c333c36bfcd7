"""/v1/jobs: submit, list, read."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api.http.auth import Caller, CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.limits import BodyLimits, takes
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from api.routes.lookup import find_job, uuid_cursor
from api.routes.pages import page_of, some_at_a_time
from api.routes.result_links import add_job_urls
from api.schemas.responses import Estimate, JobOut, JobPage, to_cursor
from api.submissions.estimate import estimate
from api.submissions.forms import BODY, MAX_KEY_CHARS, read_submission
from api.submissions.intake import submit
from shared import job_store
from shared.errors import (
    BusyError,
    DestinationCollisionError,
    DestinationMissingError,
    ForbiddenDestinationError,
    ForbiddenSourceError,
    IdempotencyKeyReusedError,
    InvalidCursorError,
    InvalidOptionsError,
    JobNotFoundError,
    QuotaExceededError,
    RequestError,
    RequestTooLargeError,
    SourceNotFoundError,
    StorageError,
    TooManyCallsError,
)
from shared.jobs import ENDED
from shared.models import MAX_SEARCHED_CHARS, Job

router = APIRouter(route_class=GuardedRoute, prefix="/v1/jobs", tags=["jobs"])

MAX_LABELS = 10
"""Most entries of the metadata that jobs are found by at a time."""

Limit = Annotated[int, Query(ge=1, le=1_000)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the previous page.")]


@router.post(
    "",
    status_code=202,
    response_model=None,
    responses={
        200: {"description": "With `dry_run`: what it would take.", "model": Estimate},
        202: {"description": "Accepted, or accepted before.", "model": JobOut},
        **responses(
            RequestError,
            InvalidOptionsError,
            DestinationCollisionError,
            DestinationMissingError,
            IdempotencyKeyReusedError,
            ForbiddenDestinationError,
            ForbiddenSourceError,
            SourceNotFoundError,
            RequestTooLargeError,
            BusyError,
            TooManyCallsError,
            QuotaExceededError,
            StorageError,
        ),
    },
    openapi_extra={"requestBody": BODY},
)
@takes(
    BodyLimits(
        memory_bytes=lambda settings: settings.max_json_bytes,
        multipart_bytes=lambda settings: settings.max_request_bytes,
    )
)
async def submit_job(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    caller: CallerDep,
    dry_run: Annotated[
        bool, Query(description="Only estimate the job; nothing is submitted.")
    ] = False,
    _idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            max_length=MAX_KEY_CHARS,
            description="The same key and body return the same job; another body gives a 422.",
        ),
    ] = None,
) -> JobOut | Estimate:
    """Submit a bulk job: JSON that names a source, or multipart with the files."""
    async with read_submission(request, resources) as submission:
        if dry_run:
            response.status_code = 200
            async with resources.estimate_turns.one_of(caller.api_key_id):
                return await to_thread.run_sync(
                    estimate, resources, caller, submission, limiter=resources.estimating
                )
        job, repeated = await run_in_threadpool(submit, resources, caller, submission)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if repeated:
        response.headers["Idempotent-Replayed"] = "true"
    return JobOut.of(job)


@router.get(
    "", response_model=JobPage, responses=responses(InvalidCursorError, InvalidOptionsError)
)
def list_jobs(
    resources: ResourcesDep,
    caller: CallerDep,
    cursor: Cursor = None,
    limit: Limit = 50,
    metadata: Annotated[
        Sequence[str],
        Query(
            max_length=MAX_LABELS,
            description="Only jobs with this entry in their `metadata`, as `NAME=VALUE`. Give it "
            f"up to {MAX_LABELS} times: then all of them must be there. Values of more than "
            f"{MAX_SEARCHED_CHARS} characters are not found.",
            examples=[["season=spring"]],
        ),
    ] = (),
) -> Response:
    """Your jobs, newest first. A page of jobs with very much metadata is shorter than `limit`."""
    jobs = _jobs_of(resources, caller, cursor, limit + 1, _labels(metadata))
    return page_of("jobs", ((JobOut.of(job), job.id) for job in jobs), limit)


def _jobs_of(
    resources: Resources, caller: Caller, cursor: str | None, limit: int, labels: dict[str, str]
) -> Iterator[Job]:
    """The first jobs of the caller behind a cursor. Raises InvalidCursorError."""

    def read(before: uuid.UUID | None, limit: int) -> Sequence[Job]:
        with resources.database.transaction() as session:
            return job_store.list_jobs(
                session, api_key_id=caller.api_key_id, before=before, limit=limit, metadata=labels
            )

    before = uuid_cursor(cursor) if cursor else None
    return some_at_a_time(read, lambda job: job.id, before, limit)


def newest_jobs(resources: Resources, caller: Caller, cursor: str | None, limit: int) -> JobPage:
    """A short page of the caller's jobs. Raises InvalidCursorError."""
    jobs = list(_jobs_of(resources, caller, cursor, limit + 1, {}))
    return JobPage(
        jobs=[JobOut.of(job) for job in jobs[:limit]],
        next_cursor=to_cursor(jobs[limit - 1].id) if len(jobs) > limit else None,
    )


def _labels(metadata: Sequence[str]) -> dict[str, str]:
    """Names and values. Raises InvalidOptionsError."""
    pairs = [text.partition("=") for text in metadata]
    if any(not name or not separator or "\0" in name + value for name, separator, value in pairs):
        raise InvalidOptionsError("`metadata` is written NAME=VALUE, for example season=spring.")
    return {name: value for name, _, value in pairs}


Include = Annotated[
    Literal["urls"] | None,
    Query(description="`urls`: add addresses of report and zip file that need no key."),
]


@router.get("/{job_id}", response_model=JobOut, responses=responses(JobNotFoundError))
def get_job(
    job_id: uuid.UUID,
    request: Request,
    resources: ResourcesDep,
    caller: CallerDep,
    include: Include = None,
) -> Response:
    """The state of a job: counts, progress, timings, images/s, time left."""
    job = state_of_job(job_id, resources, caller)
    if include:
        job = add_job_urls(resources, caller, request, job)
    # Callers ask for it again and again. So it is made into JSON here: FastAPI would check it in
    # one more thread first.
    return Response(
        job.model_dump_json(),
        media_type="application/json",
        headers={} if job.status in ENDED else {"Retry-After": "1"},
    )


def state_of_job(job_id: uuid.UUID, resources: Resources, caller: Caller) -> JobOut:
    """The state of a job of the caller. Raises JobNotFoundError."""
    return JobOut.of(find_job(resources, caller, job_id))
