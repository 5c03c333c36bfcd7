"""/v1/items: one image and its result."""

import uuid
from pathlib import PurePosixPath
from typing import Any

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from api.auth import CallerDep
from api.parts import Parts, PartsDep
from api.problems import responses
from api.schemas import ItemOut
from shared import job_store
from shared.errors import ItemNotFoundError, ResultNotReadyError
from shared.jobs import ItemStatus
from shared.models import Item

router = APIRouter(prefix="/v1/items", tags=["items"])


@router.get("/{item_id}", responses=responses(ItemNotFoundError))
def get_item(item_id: uuid.UUID, parts: PartsDep, caller: CallerDep) -> ItemOut:
    """One image of a job."""
    item, options = _find(parts, caller.api_key_id, item_id)
    return ItemOut.of(item, options)


@router.get(
    "/{item_id}/result",
    status_code=307,
    response_class=RedirectResponse,
    responses={
        307: {"description": "To the result, by a URL that is valid for a while."},
        **responses(ItemNotFoundError, ResultNotReadyError),
    },
)
def get_result(item_id: uuid.UUID, parts: PartsDep, caller: CallerDep) -> RedirectResponse:
    """Go to the result of an image."""
    item, _options = _find(parts, caller.api_key_id, item_id)
    if item.status is not ItemStatus.SUCCEEDED or item.result_key is None:
        why = f": {item.error_code}" if item.error_code else ""
        raise ResultNotReadyError(f"The item is {item.status}{why}")
    stem = PurePosixPath(item.name).stem or "result"
    url = parts.storage.presign_get(
        item.result_key,
        ttl_s=parts.settings.result_url_ttl_s,
        filename=stem + PurePosixPath(item.result_key).suffix,
    )
    return RedirectResponse(url, 307, headers={"Cache-Control": "no-store"})


def _find(parts: Parts, api_key_id: uuid.UUID, item_id: uuid.UUID) -> tuple[Item, dict[str, Any]]:
    with parts.database.transaction() as session:
        found = job_store.get_item(session, item_id, api_key_id=api_key_id)
    if found is None:
        raise ItemNotFoundError(f"There is no item {item_id}")
    return found
