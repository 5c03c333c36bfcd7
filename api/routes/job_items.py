"""/v1/jobs/{id}/items, its report, and its progress as events."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.closed_stream import ClosedStream
from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from api.routes.job_archive import Wanted, archive
from api.routes.job_events import EventStream, listen
from api.routes.job_report import csv_lines, json_lines
from api.routes.jobs import Cursor
from api.routes.lookup import find_job, position_cursor
from api.routes.pages import ROWS_AT_ONCE, page_of, some_at_a_time
from api.routes.result_links import Access, Include, job_filename, links_of
from api.schemas.responses import ItemOut, ItemPage
from api.schemas.sources import STORABLE
from shared import job_store
from shared.content_disposition import content_disposition
from shared.errors import (
    BusyError,
    InvalidCursorError,
    JobNotFoundError,
    RangeNotSatisfiableError,
    RequestTooLargeError,
    ResultNotReadyError,
    TooManyCallsError,
    TooManyListenersError,
)
from shared.job_store import Search
from shared.jobs import ItemStatus, Reason
from shared.models import Item, Job

router = APIRouter(route_class=GuardedRoute, prefix="/v1/jobs/{job_id}", tags=["jobs"])

Limit = Annotated[int, Query(ge=1, le=1_000)]
_TEXT = {"schema": {"type": "string"}}


class _Csv(StreamingResponse):
    media_type = "text/csv; charset=utf-8"


class _JsonLines(StreamingResponse):
    media_type = "application/x-ndjson"


class _Zip(ClosedStream):
    media_type = "application/zip"


@router.get(
    "/items",
    response_model=ItemPage,
    responses=responses(JobNotFoundError, InvalidCursorError),
)
def list_items(
    job_id: uuid.UUID,
    resources: ResourcesDep,
    caller: CallerDep,
    status: ItemStatus | None = None,
    review: Annotated[
        Literal["flagged", "pending", "accepted", "rejected"] | None,
        Query(description="`pending`: marked for review, without a verdict."),
    ] = None,
    custom_id: Annotated[
        str | None,
        Query(max_length=256, pattern=STORABLE, description="Only images that you gave this id."),
    ] = None,
    search: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=256,
            description="Only images whose name or `custom_id` holds this text, in any case, or "
            "whose id it is.",
        ),
    ] = None,
    reason: Annotated[
        Reason | None, Query(description="Only images that are marked for this reason.")
    ] = None,
    unmet_rules: Annotated[
        Literal["true"] | None,
        Query(description="Only images that do not meet the rules of their marketplace."),
    ] = None,
    after: Annotated[
        int,
        Query(
            ge=0,
            lt=2**31,
            description="Begin behind this `position`. A cursor overrules it.",
        ),
    ] = 0,
    include: Include = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """The images of a job, in the order of their source. A page of very long rows is shorter than
    `limit`.

    With `search`, `reason` or `unmet_rules`, a request looks through 20,000 images: a page may be
    short or empty although there are more. Go on while there is a `next_cursor`.
    """
    if cursor:
        after = position_cursor(cursor)
    job = find_job(resources, caller, job_id)
    wanted = Search(
        text=search,
        reason=reason,
        unmet_rules=bool(unmet_rules),
        status=status,
        review=review,
        custom_id=custom_id,
    )
    found: Iterator[tuple[Item | None, int]] = _listed(resources, job_id, wanted, after, limit + 1)
    if search or reason or unmet_rules:
        found = _searched(resources, job_id, wanted, after, limit)
    rows = (
        (None if item is None else _shown(resources, job, item, links=include is not None), place)
        for item, place in found
    )
    return page_of("items", rows, limit)


def _shown(resources: Resources, job: Job, item: Item, *, links: bool) -> ItemOut:
    return ItemOut.of(item, job.options, links_of(resources, item) if links else None)


def _listed(
    resources: Resources, job_id: uuid.UUID, wanted: Search, after: int, limit: int
) -> Iterator[tuple[Item, int]]:
    """The first images behind a position, and their own."""

    def read(after: int, limit: int) -> Sequence[Item]:
        with resources.database.transaction() as session:
            return job_store.list_items(
                session,
                job_id,
                status=wanted.status,
                review=wanted.review,
                custom_id=wanted.custom_id,
                after=after,
                limit=limit,
            )

    for item in some_at_a_time(read, lambda item: item.position, after, limit):
        yield item, item.position


def _searched(
    resources: Resources, job_id: uuid.UUID, wanted: Search, after: int, limit: int
) -> Iterator[tuple[Item | None, int]]:
    """The same of a search, and at last where it goes on, unless there are no more."""
    while True:
        asked = min(limit, ROWS_AT_ONCE)
        with resources.database.transaction() as session:
            items, end = job_store.search_items(session, job_id, wanted, after=after, limit=asked)
        for item in items:
            yield item, item.position
        if end is None:
            return
        limit -= asked
        if len(items) < asked or limit == 0:
            yield None, end
            return
        after = end


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
