"""/v1/jobs/{id}/items: the images of a job, listed and searched."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from api.routes.jobs import Cursor
from api.routes.lookup import find_job, position_cursor
from api.routes.pages import ROWS_AT_ONCE, page_of, some_at_a_time
from api.routes.result_links import Include, links_of
from api.schemas.responses import ItemOut, ItemPage
from api.schemas.sources import STORABLE
from shared import job_store
from shared.errors import InvalidCursorError, JobNotFoundError
from shared.job_store import Search
from shared.jobs import ItemStatus, Reason
from shared.models import Item, Job

router = APIRouter(route_class=GuardedRoute, prefix="/v1/jobs/{job_id}", tags=["jobs"])

Limit = Annotated[int, Query(ge=1, le=1_000)]


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
