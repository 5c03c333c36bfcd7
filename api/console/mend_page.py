"""The page that mends the matte of one image."""

import uuid

from fastapi import APIRouter, Request, Response

from api.console.page_route import PageRoute
from api.console.rendering import page
from api.http.auth import CallerDep
from api.resources import ResourcesDep
from api.routes.items import get_item
from shared.jobs import ItemKind, Scope

router = APIRouter(route_class=PageRoute, prefix="/console", include_in_schema=False)


@router.get("/items/{item_id}/mend")
def mend(
    request: Request,
    resources: ResourcesDep,
    caller: CallerDep,
    item_id: uuid.UUID,
    which: str = "",
) -> Response:
    """Brushes over one image. `which`: the filter of the review that it came from. Raises
    ScopeError for a key that only reads.
    """
    caller.require(Scope.SUBMIT)
    item = get_item(item_id, resources, caller)
    return page(
        request,
        resources,
        "mend_clip.html" if item.kind is ItemKind.CLIP else "mend.html",
        item=item,
        models=resources.settings.second_models,
        key_id=caller.api_key_id,
        which=which,
    )
