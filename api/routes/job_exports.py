"""/v1/jobs/{id}: its report, its results as a zip file, and its progress as events."""

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from api.closed_stream import ClosedStream
from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import ResourcesDep
from api.routes.job_archive import Wanted, archive
from api.routes.job_events import EventStream, listen
from api.routes.job_report import csv_lines, json_lines
from api.routes.lookup import find_job
from api.routes.result_links import Access, Include, job_filename
from shared.content_disposition import content_disposition
from shared.errors import (
    BusyError,
    JobNotFoundError,
    RangeNotSatisfiableError,
    RequestTooLargeError,
    ResultNotReadyError,
    TooManyCallsError,
    TooManyListenersError,
)

router = APIRouter(route_class=GuardedRoute, prefix="/v1/jobs/{job_id}", tags=["jobs"])

_TEXT = {"schema": {"type": "string"}}


class _Csv(StreamingResponse):
    media_type = "text/csv; charset=utf-8"


class _JsonLines(StreamingResponse):
    media_type = "application/x-ndjson"


class _Zip(ClosedStream):
    media_type = "application/zip"


@router.head("/report.csv", include_in_schema=False)
@router.get(
    "/report.csv",
    response_class=_Csv,
    responses={
        200: {"description": "A row an image, as it stands.", "content": {"text/csv": _TEXT}},
        **responses(JobNotFoundError),
    },
)
def report_csv(
    job_id: uuid.UUID,
    request: Request,
    resources: ResourcesDep,
    caller: CallerDep,
    include: Include = None,
    _access: Access = None,
) -> StreamingResponse:
    """The outcome of every image, with your own columns; also available while the job runs."""
    job = find_job(resources, caller, job_id)
    lines = (
        () if _asks_for_headers(request) else csv_lines(resources, job, urls=include is not None)
    )
    return _named(_Csv(lines), f"{job_filename(job.id, job.labels)}.csv")


@router.head("/report.jsonl", include_in_schema=False)
@router.get(
    "/report.jsonl",
    response_class=_JsonLines,
    responses={
        200: {
            "description": "An object an image, one a line.",
            "content": {"application/x-ndjson": _TEXT},
        },
        **responses(JobNotFoundError),
    },
)
def report_jsonl(
    job_id: uuid.UUID,
    request: Request,
    resources: ResourcesDep,
    caller: CallerDep,
    include: Include = None,
    _access: Access = None,
) -> StreamingResponse:
    """The outcome of every image, with your own columns; also available while the job runs."""
    job = find_job(resources, caller, job_id)
    lines = (
        () if _asks_for_headers(request) else json_lines(resources, job, urls=include is not None)
    )
    return _named(_JsonLines(lines), f"{job_filename(job.id, job.labels)}.jsonl")


@router.head("/archive.zip", include_in_schema=False)
@router.get(
    "/archive.zip",
    response_class=_Zip,
    responses={
        200: {
            "description": "A zip file of the results, with the names of `matting download`. It "
            "has `Content-Length` and `ETag`, and can be resumed with `Range` and `If-Range`, "
            "unless an earlier version of this service, which kept no checksums, made a result.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {
            "description": "The range that `Range` names.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        **responses(
            JobNotFoundError,
            ResultNotReadyError,
            RangeNotSatisfiableError,
            RequestTooLargeError,
            BusyError,
            TooManyCallsError,
        ),
    },
)
def get_archive(
    job_id: uuid.UUID,
    request: Request,
    resources: ResourcesDep,
    caller: CallerDep,
    review: Annotated[
        Literal["accepted", "unflagged", "flagged", "pending", "rejected"] | None,
        Query(
            description="`accepted`: only what a reviewer accepted. `unflagged`: also what needs "
            "no review. `flagged`, `pending`, `rejected`: as for the list of items. Default: all "
            "but what was rejected."
        ),
    ] = None,
    _status: Annotated[
        Literal["succeeded"] | None,
        Query(
            alias="status",
            description="Only images that succeeded have results, so this changes nothing.",
        ),
    ] = None,
    byte_range: Annotated[
        str | None, Header(alias="Range", description="Such as `bytes=1000-`: one range.")
    ] = None,
    if_range: Annotated[
        str | None,
        Header(description="The ETag of the part that you have: the whole comes if it changed."),
    ] = None,
    _access: Access = None,
) -> StreamingResponse:
    """All results of a job as one zip file; also available while the job runs."""
    job = find_job(resources, caller, job_id)
    if _asks_for_headers(request):  # of the whole: RFC 9110 gives `Range` no meaning here
        made = archive(resources, caller, job, review, Wanted())
        made.pieces.close()
    else:
        wanted = Wanted(byte_range=byte_range, if_range=if_range)
        made = archive(resources, caller, job, review, wanted)
    answer = _Zip(made.pieces, made.status, made.headers, close=made.close)
    return _named(answer, f"{job_filename(job.id, job.labels)}.zip")


@router.get(
    "/events",
    response_class=EventStream,
    responses={
        200: {
            "description": "Server-Sent Events: `progress` with the job whenever it changed, "
            "`end` with the job at last, also when it was paused because too many images failed.",
            "content": {"text/event-stream": _TEXT},
        },
        **responses(JobNotFoundError, TooManyListenersError),
    },
)
def job_events(
    job_id: uuid.UUID,
    resources: ResourcesDep,
    caller: CallerDep,
    last_event_id: Annotated[
        str | None,
        Header(max_length=100, description="The id of the last event that you received."),
    ] = None,
) -> StreamingResponse:
    """The job's progress as it happens. After a disconnect, send the id of the last event to
    continue.
    """
    return listen(resources, caller, job_id, last_event_id)


def _asks_for_headers(request: Request) -> bool:
    return request.method == "HEAD"


def _named(response: StreamingResponse, filename: str) -> StreamingResponse:
    response.headers["Content-Disposition"] = content_disposition("attachment", filename)
    return response
