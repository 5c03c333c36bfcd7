"""/v1/jobs: submit, list, look at, cancel, retry."""

import json
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from api.auth import CallerDep
from api.intake import IncomingFile, submit_files, submit_sources
from api.parts import Parts, PartsDep
from api.problems import describe_validation, responses
from api.schemas import ItemOut, ItemPage, JobOut, JobPage, JobRequest, from_cursor, to_cursor
from shared import job_store
from shared.errors import (
    ForbiddenSourceError,
    InvalidCursorError,
    InvalidOptionsError,
    JobNotFoundError,
    RequestError,
    RequestTooLargeError,
    StorageError,
)
from shared.jobs import ENDED, ItemStatus
from shared.models import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Limit = Annotated[int, Query(ge=1, le=1_000)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]

_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    "options": {"type": "string", "description": "Options, as JSON."},
                    "priority": {"type": "integer", "minimum": 0, "maximum": 9},
                    "metadata": {"type": "string", "description": "An object, as JSON."},
                },
            }
        },
    },
}


@router.post(
    "",
    status_code=202,
    response_model=JobOut,
    responses=responses(
        RequestError, InvalidOptionsError, ForbiddenSourceError, RequestTooLargeError, StorageError
    ),
    openapi_extra={"requestBody": _BODY},
)
async def submit(
    request: Request, response: Response, parts: PartsDep, caller: CallerDep
) -> JobOut:
    """Submit a bulk job: JSON that names a source, or multipart with the files themselves."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            body = JobRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise InvalidOptionsError(describe_validation(error.errors())) from error
        job = await run_in_threadpool(submit_sources, parts, caller, body)
    elif kind == "multipart/form-data":
        async with request.form(max_files=parts.settings.max_files_per_request) as form:
            files = [
                IncomingFile(part.filename or "unnamed", part.file)
                for part in form.getlist("files")
                if isinstance(part, UploadFile)
            ]
            if not files:
                raise RequestError("The multipart body has no part named `files`")
            body = _form_request(
                {name: value for name, value in form.items() if isinstance(value, str)}
            )
            job = await run_in_threadpool(
                submit_files,
                parts,
                caller,
                files,
                options=body.options,
                priority=body.priority,
                metadata=body.metadata,
            )
    else:
        raise RequestError(f"The body must be JSON or multipart, not {kind or 'untyped'!r}")
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobOut.of(job)


@router.get("", responses=responses(InvalidCursorError))
def list_jobs(
    parts: PartsDep, caller: CallerDep, cursor: Cursor = None, limit: Limit = 50
) -> JobPage:
    """Your jobs, newest first."""
    before = _uuid_cursor(cursor) if cursor else None
    with parts.database.transaction() as session:
        jobs = job_store.list_jobs(
            session, api_key_id=caller.api_key_id, before=before, limit=limit + 1
        )
    page = jobs[:limit]
    more = len(jobs) > limit
    return JobPage(
        jobs=[JobOut.of(job) for job in page],
        next_cursor=to_cursor(page[-1].id) if more else None,
    )


@router.get("/{job_id}", responses=responses(JobNotFoundError))
def get_job(job_id: uuid.UUID, response: Response, parts: PartsDep, caller: CallerDep) -> JobOut:
    """How a job stands: counts, progress, timings, images/s, the time left."""
    job = _find(parts, caller.api_key_id, job_id)
    if job.status not in ENDED:
        response.headers["Retry-After"] = "1"
    return JobOut.of(job)


@router.get("/{job_id}/items", responses=responses(JobNotFoundError, InvalidCursorError))
def list_items(
    job_id: uuid.UUID,
    parts: PartsDep,
    caller: CallerDep,
    status: ItemStatus | None = None,
    review: Annotated[
        Literal["flagged", "pending", "accepted", "rejected"] | None,
        Query(description="`pending`: marked for review, and no verdict yet."),
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> ItemPage:
    """The images of a job, in the order of their source."""
    after = _position_cursor(cursor) if cursor else 0
    job = _find(parts, caller.api_key_id, job_id)
    with parts.database.transaction() as session:
        items = job_store.list_items(
            session, job_id, status=status, review=review, after=after, limit=limit + 1
        )
    page = items[:limit]
    more = len(items) > limit
    return ItemPage(
        items=[ItemOut.of(item, job.options) for item in page],
        next_cursor=to_cursor(page[-1].position) if more else None,
    )


@router.post("/{job_id}/cancel", responses=responses(JobNotFoundError))
def cancel(job_id: uuid.UUID, parts: PartsDep, caller: CallerDep) -> JobOut:
    """Stop a job: what no worker has begun will not be done."""
    _find(parts, caller.api_key_id, job_id)
    with parts.database.transaction() as session:
        return JobOut.of(job_store.cancel_job(session, job_id))


@router.post("/{job_id}/retry", responses=responses(JobNotFoundError))
def retry(job_id: uuid.UUID, parts: PartsDep, caller: CallerDep) -> JobOut:
    """Try the failed images of a job again."""
    _find(parts, caller.api_key_id, job_id)
    with parts.database.transaction() as session:
        return JobOut.of(job_store.retry_failed(session, job_id))


def _find(parts: Parts, api_key_id: uuid.UUID, job_id: uuid.UUID) -> Job:
    with parts.database.transaction() as session:
        job = job_store.get_job(session, job_id, api_key_id=api_key_id)
    if job is None:
        raise JobNotFoundError(f"There is no job {job_id}")
    return job


class _FormRequest(JobRequest):
    """What a multipart body says beside its files."""

    source: None = None  # type: ignore[assignment]  # the files are the source


def _form_request(fields: dict[str, str]) -> _FormRequest:
    """Read the text parts. Raises InvalidOptionsError."""
    try:
        values: dict[str, Any] = {
            name: json.loads(text) if name in ("options", "metadata") else text
            for name, text in fields.items()
        }
        return _FormRequest.model_validate(values)
    except json.JSONDecodeError as error:
        raise InvalidOptionsError(f"`options` and `metadata` are JSON: {error}") from error
    except ValidationError as error:
        raise InvalidOptionsError(describe_validation(error.errors())) from error


def _uuid_cursor(cursor: str) -> uuid.UUID:
    try:
        return uuid.UUID(from_cursor(cursor))
    except ValueError as error:
        raise InvalidCursorError from error


def _position_cursor(cursor: str) -> int:
    try:
        position = int(from_cursor(cursor))
    except ValueError as error:
        raise InvalidCursorError from error
    if not 0 <= position < 2**31:
        raise InvalidCursorError
    return position
