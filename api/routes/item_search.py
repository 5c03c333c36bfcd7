"""/v1/items: images of all your jobs by your own id."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import ResourcesDep
from api.routes.jobs import Cursor, Limit
from api.routes.lookup import uuid_cursor
from api.routes.result_links import Include, links_of
from api.schemas.responses import ItemOut, ItemPage, to_cursor
from api.schemas.sources import STORABLE
from shared import job_store
from shared.errors import InvalidCursorError

router = APIRouter(route_class=GuardedRoute, prefix="/v1/items", tags=["items"])


@router.get("", responses=responses(InvalidCursorError))
def find_items(
    resources: ResourcesDep,
    caller: CallerDep,
    custom_id: Annotated[
        str, Query(min_length=1, max_length=256, pattern=STORABLE, description="Your own id.")
    ],
    include: Include = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ItemPage:
    """The images of all your jobs that have this id, newest first."""
    before = uuid_cursor(cursor) if cursor else None
    with resources.database.transaction() as session:
        found = job_store.find_items(
            session, custom_id, api_key_id=caller.api_key_id, before=before, limit=limit + 1
        )
    page = found[:limit]
    return ItemPage(
        items=[
            ItemOut.of(item, options, links_of(resources, item) if include else None)
            for item, options in page
        ],
        next_cursor=to_cursor(page[-1][0].id) if len(found) > limit else None,
    )
