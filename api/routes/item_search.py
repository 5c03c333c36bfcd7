"""/v1/items: images of all your jobs by your own id."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import ResourcesDep
from api.routes.jobs import Cursor, Limit
from api.routes.lookup import uuid_cursor
from api.routes.pages import page_of, some_at_a_time
from api.routes.result_links import Include, links_of
from api.schemas.responses import ItemOut, ItemPage
from api.schemas.sources import STORABLE
from shared import job_store
from shared.errors import InvalidCursorError
from shared.models import Item

router = APIRouter(route_class=GuardedRoute, prefix="/v1/items", tags=["items"])


@router.get("", response_model=ItemPage, responses=responses(InvalidCursorError))
def find_items(
    resources: ResourcesDep,
    caller: CallerDep,
    custom_id: Annotated[
        str, Query(min_length=1, max_length=256, pattern=STORABLE, description="Your own id.")
    ],
    include: Include = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """The images of all your jobs that have this id, newest first."""
    before = uuid_cursor(cursor) if cursor else None

    def read(before: uuid.UUID | None, limit: int) -> Sequence[tuple[Item, dict[str, Any]]]:
        with resources.database.transaction() as session:
            return job_store.find_items(
                session, custom_id, api_key_id=caller.api_key_id, before=before, limit=limit
            )

    rows = (
        (ItemOut.of(item, options, links_of(resources, item) if include else None), item.id)
        for item, options in some_at_a_time(read, lambda row: row[0].id, before, limit + 1)
    )
    return page_of("items", rows, limit)
