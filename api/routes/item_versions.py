"""/v1/items/{id}/redo and versions: other results of an image, and back to an earlier one."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path

from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import ResourcesDep
from api.routes.lookup import find_item
from api.schemas.requests import RedoRequest
from api.schemas.responses import ItemOut
from api.schemas.versions import VersionList, VersionOut
from api.submissions.redo import redo
from api.submissions.restore import restore
from shared import job_store
from shared.errors import (
    DestinationCollisionError,
    DestinationRefusedError,
    ForbiddenDestinationError,
    ForbiddenSourceError,
    ItemNotFoundError,
    QuotaExceededError,
    RedoPendingError,
    ResultNotReadyError,
    StorageError,
    UnknownModelError,
    VersionNotFoundError,
)

router = APIRouter(route_class=GuardedRoute, prefix="/v1/items/{item_id}", tags=["items"])


@router.post(
    "/redo",
    status_code=202,
    responses=responses(
        DestinationCollisionError,
        ForbiddenDestinationError,
        ForbiddenSourceError,
        ItemNotFoundError,
        QuotaExceededError,
        RedoPendingError,
        ResultNotReadyError,
        UnknownModelError,
    ),
)
def redo_item(
    item_id: uuid.UUID, body: RedoRequest, resources: ResourcesDep, caller: CallerDep
) -> ItemOut:
    """Process the photo again, before images that wait. Until that has succeeded the item shows
    the result that it has. It counts for the quota like any image.
    """
    item, options = find_item(resources, caller, item_id)
    item, options = redo(resources, caller, item, options, body)
    return ItemOut.of(item, options)


@router.get("/versions", responses=responses(ItemNotFoundError))
def list_versions(item_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> VersionList:
    """The versions of the result, oldest first: the first one and the last ones."""
    item, options = find_item(resources, caller, item_id)
    with resources.database.transaction() as session:
        versions = job_store.list_versions(session, item)
    if not versions:
        return VersionList(versions=VersionOut.only(item, options))
    return VersionList(versions=[VersionOut.of(version, item) for version in versions])


@router.post(
    "/versions/{number}/restore",
    responses=responses(
        DestinationRefusedError,
        ForbiddenDestinationError,
        ItemNotFoundError,
        RedoPendingError,
        ResultNotReadyError,
        StorageError,
        VersionNotFoundError,
    ),
)
def restore_version(
    item_id: uuid.UUID,
    number: Annotated[int, Path(ge=1, le=2**31 - 1)],
    resources: ResourcesDep,
    caller: CallerDep,
) -> ItemOut:
    """Let the item show an earlier version again, at once. A verdict is removed. If the job has a
    destination, the version is written there again.
    """
    return ItemOut.of(*restore(resources, caller, item_id, number))
