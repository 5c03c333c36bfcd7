"""/v1/items: an image and its results."""

import uuid
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from api.routes.lookup import find_item
from api.routes.result_links import Include, links_of, result_filename
from api.schemas.requests import ReviewRequest
from api.schemas.responses import ItemOut
from shared import job_store
from shared.errors import ItemNotFoundError, ResultNotReadyError
from shared.jobs import ItemStatus
from shared.object_url import ObjectUrl
from shared.options import MAX_EXTRA_OUTPUTS

router = APIRouter(route_class=GuardedRoute, prefix="/v1/items", tags=["items"])

_REDIRECT = {"description": "To the file, by a URL that is valid for a while."}


@router.get("/{item_id}", responses=responses(ItemNotFoundError))
def get_item(
    item_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep, include: Include = None
) -> ItemOut:
    """One image of a job."""
    item, options = find_item(resources, caller, item_id)
    return ItemOut.of(item, options, links_of(resources, item) if include else None)


@router.head("/{item_id}/result", include_in_schema=False)
@router.get(
    "/{item_id}/result",
    status_code=307,
    response_class=RedirectResponse,
    responses={
        307: _REDIRECT,
        **responses(ItemNotFoundError, ResultNotReadyError),
    },
)
def get_result(
    item_id: uuid.UUID, request: Request, resources: ResourcesDep, caller: CallerDep
) -> RedirectResponse:
    """Redirect to the result of an image."""
    item, _options = find_item(resources, caller, item_id)
    if item.status is not ItemStatus.SUCCEEDED or item.result_key is None:
        why = f": {item.error_code}" if item.error_code else ""
        raise ResultNotReadyError(f"The item is {item.status}{why}")
    return _redirect(resources, request, item.result_key, result_filename(item))


@router.head("/{item_id}/outputs/{index}", include_in_schema=False)
@router.get(
    "/{item_id}/outputs/{index}",
    status_code=307,
    response_class=RedirectResponse,
    responses={307: _REDIRECT, **responses(ItemNotFoundError)},
)
def get_output(
    item_id: uuid.UUID,
    index: Annotated[int, Path(ge=0, le=MAX_EXTRA_OUTPUTS + 1)],
    request: Request,
    resources: ResourcesDep,
    caller: CallerDep,
) -> RedirectResponse:
    """Redirect to one of several outputs of an image."""
    item, _options = find_item(resources, caller, item_id)
    outputs = item.outputs or []
    if index >= len(outputs):
        raise ItemNotFoundError(f"The item {item_id} has no output {index}")
    output = outputs[index]
    return _redirect(resources, request, output["key"], PurePosixPath(output["name"]).name)


@router.head("/{item_id}/source", include_in_schema=False)
@router.get(
    "/{item_id}/source",
    status_code=307,
    response_class=RedirectResponse,
    responses={307: _REDIRECT, **responses(ItemNotFoundError)},
)
def get_source(
    item_id: uuid.UUID, request: Request, resources: ResourcesDep, caller: CallerDep
) -> RedirectResponse:
    """Redirect to the original photo."""
    item, _options = find_item(resources, caller, item_id)
    if not item.place.startswith("s3://"):
        return RedirectResponse(item.place, 307, headers={"Cache-Control": "no-store"})
    place = ObjectUrl.parse(item.place, resources.storage.bucket)
    return _redirect(resources, request, place.key, PurePosixPath(item.name).name, place.bucket)


@router.post("/{item_id}/review", responses=responses(ItemNotFoundError, ResultNotReadyError))
def review_item(
    item_id: uuid.UUID, body: ReviewRequest, resources: ResourcesDep, caller: CallerDep
) -> ItemOut:
    """Record a reviewer's verdict on a result; null removes it."""
    with resources.database.transaction() as session:
        found = job_store.get_item(session, item_id, api_key_id=caller.api_key_id)
        if found is None:
            raise ItemNotFoundError(f"There is no item {item_id}")
        item, options = found
        item = job_store.record_verdict(session, item, verdict=body.verdict, note=body.note)
        return ItemOut.of(item, options)


def _redirect(
    resources: Resources, request: Request, key: str, filename: str, bucket: str | None = None
) -> RedirectResponse:
    presign = resources.storage.presign_get
    if request.method == "HEAD":  # the signature of a URL is valid for one method
        presign = resources.storage.presign_head
    url = presign(key, ttl_s=resources.settings.result_url_ttl_s, filename=filename, bucket=bucket)
    return RedirectResponse(url, 307, headers={"Cache-Control": "no-store"})
