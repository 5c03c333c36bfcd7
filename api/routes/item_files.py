"""/v1/items/{id}/…: the matte, the photo and the thumbnails of an image."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from api.closed_stream import ClosedStream
from api.http.auth import CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.limits import BodyLimits, takes
from api.http.problems import responses
from api.matte_png import alpha_as_grey_png, checked_matte
from api.resources import Resources, ResourcesDep
from api.routes.lookup import find_item
from api.routes.streamed_photo import fetched_photo, opened_photo, streamed_photo
from api.schemas.responses import ItemOut
from api.submissions.forms import read_whole
from api.submissions.redo import mend
from shared.errors import (
    IfMatchMissingError,
    InvalidMatteError,
    ItemNotFoundError,
    MatteChangedError,
    NotKeptError,
    QuotaExceededError,
    RedoPendingError,
    ResultNotReadyError,
    SourceNotFoundError,
)
from shared.jobs import ItemKind, ItemStatus
from shared.kept_files import MatteIn, matte_key, output_with_matte, thumbnails_key
from shared.models import Item
from shared.object_url import ObjectUrl
from shared.options import Options

router = APIRouter(route_class=GuardedRoute, prefix="/v1/items/{item_id}", tags=["items"])

MAX_THUMBNAILS_BYTES = 1024**2

IfNoneMatch = Annotated[str | None, Header(max_length=1_000)]
_PNG: dict[str, Any] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
_WEBP: dict[str, Any] = {"image/webp": {"schema": {"type": "string", "format": "binary"}}}
_UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "You have it."}}


class _Png(ClosedStream):
    media_type = "image/png"


class _Webp(Response):
    media_type = "image/webp"


@router.get(
    "/matte",
    response_class=_Png,
    responses={
        200: {
            "description": "8-bit grey PNG of the upright photo's size; 255 is the subject. Its "
            "`ETag` belongs into the `If-Match` of a change.",
            "content": _PNG,
        },
        **_UNCHANGED,
        **responses(ItemNotFoundError, NotKeptError, ResultNotReadyError),
    },
)
def get_matte(
    item_id: uuid.UUID,
    resources: ResourcesDep,
    caller: CallerDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The matte of an image's result, streamed through the API."""
    item, options = find_item(resources, caller, item_id)
    result_key = _result_key(item)
    if _is_known(if_none_match, item):
        return _unchanged(item)
    of_item = Options.model_validate(item.options or options)
    pieces, close = _matte_of(resources, item, result_key, of_item)
    return _Png(pieces, headers=_headers(item), close=close)


def _matte_of(
    resources: Resources, item: Item, result_key: str, options: Options
) -> tuple[Iterator[bytes], Callable[[], None]]:
    """The pieces, and what closes them. Raises NotKeptError, StorageError."""
    if item.kind is not ItemKind.PHOTO:
        raise NotKeptError(f"The item {item.id} is a {item.kind}, which has no matte of its own")
    inside = output_with_matte(options)
    key = matte_key(result_key)
    if inside is not None:
        key = item.outputs[inside[0]]["key"] if item.outputs else result_key
    try:
        _, pieces = resources.storage.open(resources.storage.bucket, key)
    except SourceNotFoundError as error:
        raise NotKeptError(f"The matte of the item {item.id} was not kept") from error
    if not inside or inside[1] is not MatteIn.ALPHA:
        return pieces, pieces.close
    try:
        return alpha_as_grey_png(pieces), pieces.close
    except BaseException:
        pieces.close()
        raise


@router.put(
    "/matte",
    status_code=202,
    openapi_extra={"requestBody": {"required": True, "content": _PNG}},
    responses=responses(
        ItemNotFoundError,
        IfMatchMissingError,
        InvalidMatteError,
        MatteChangedError,
        QuotaExceededError,
        RedoPendingError,
        ResultNotReadyError,
    ),
)
@takes(BodyLimits(memory_bytes=lambda settings: settings.max_image_bytes))
async def put_matte(
    item_id: uuid.UUID,
    request: Request,
    resources: ResourcesDep,
    caller: CallerDep,
    if_match: Annotated[
        str | None,
        Header(max_length=1_000, description="The `ETag` of the matte that you changed, or `*`."),
    ] = None,
) -> ItemOut:
    """Replace the matte of a result: a worker renders all outputs again with the item's own
    options. Until then the item shows the result that it has.
    """
    item, options = await run_in_threadpool(find_item, resources, caller, item_id)
    if if_match is None:
        raise IfMatchMissingError
    _result_key(item)
    if item.kind is not ItemKind.PHOTO:
        raise InvalidMatteError(f"The item is a {item.kind}: only mattes of photos can be changed")
    instead_of = None if if_match.strip() == "*" else frozenset({item.version})
    if instead_of is not None and not _names(if_match, item):
        raise MatteChangedError(f"The item has version {item.version} now")
    body = await read_whole(request)
    size = item.width or 0, item.height or 0
    matte = await run_in_threadpool(checked_matte, body, *size)
    item, options = await run_in_threadpool(
        mend, resources, caller, item, options, matte, instead_of
    )
    return ItemOut.of(item, options)


_THUMBNAIL: dict[str, Any] = {
    "response_class": _Webp,
    "responses": {
        200: {
            "description": "WebP of at most 208 px a side; a frame of a clip, at most 1,280 px.",
            "content": _WEBP,
        },
        **_UNCHANGED,
        **responses(ItemNotFoundError, NotKeptError, ResultNotReadyError),
    },
}


@router.get("/thumbnail", **_THUMBNAIL)
def get_thumbnail(
    item_id: uuid.UUID,
    resources: ResourcesDep,
    caller: CallerDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A small picture of the result."""
    item, _ = find_item(resources, caller, item_id)
    return _thumbnail(resources, item, if_none_match, 0)


@router.get("/photo-thumbnail", **_THUMBNAIL)
def get_photo_thumbnail(
    item_id: uuid.UUID,
    resources: ResourcesDep,
    caller: CallerDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A small picture of the upright photo."""
    item, _ = find_item(resources, caller, item_id)
    return _thumbnail(resources, item, if_none_match, 1)


def _thumbnail(resources: Resources, item: Item, known: str | None, index: int) -> Response:
    key = thumbnails_key(_result_key(item))
    if _is_known(known, item):
        return _unchanged(item)
    try:
        both = resources.storage.get(resources.storage.bucket, key, MAX_THUMBNAILS_BYTES)
    except SourceNotFoundError as error:
        raise NotKeptError(f"There are no thumbnails of the item {item.id}") from error
    first = 8 + int.from_bytes(both[4:8], "little")
    return _Webp(both[first:] if index else both[:first], headers=_headers(item))


@router.get(
    "/photo",
    response_class=ClosedStream,
    responses={
        200: {
            "description": "The file, where it has no URL in the storage, or with `inline`.",
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        307: {"description": "To the file, by a URL that is valid for a while."},
        **responses(ItemNotFoundError, SourceNotFoundError),
    },
)
async def get_photo(
    item_id: uuid.UUID,
    resources: ResourcesDep,
    caller: CallerDep,
    inline: Annotated[
        bool, Query(description="Send the file itself, from this origin, and never redirect.")
    ] = False,
) -> Response:
    """The original photo. A photo by URL is fetched again."""
    item, _ = await run_in_threadpool(find_item, resources, caller, item_id)
    name = PurePosixPath(item.name).name
    if not item.place.startswith("s3://"):
        async with resources.fetch_turns.one_of(caller.api_key_id):
            photo = await to_thread.run_sync(
                fetched_photo, resources, item.place, limiter=resources.fetching
            )
        return streamed_photo(photo, name)
    place = ObjectUrl.parse(item.place, resources.storage.bucket)
    if inline:
        return streamed_photo(await run_in_threadpool(opened_photo, resources, place), name)
    url = resources.storage.presign_get(
        place.key,
        ttl_s=resources.settings.result_url_ttl_s,
        filename=name,
        bucket=place.bucket,
    )
    return RedirectResponse(url, 307, headers={"Cache-Control": "no-store"})


def _result_key(item: Item) -> str:
    if item.status is not ItemStatus.SUCCEEDED or item.result_key is None:
        raise ResultNotReadyError(f"The item is {item.status}")
    return item.result_key


def _etag(item: Item) -> str:
    """The strong validator of what belongs to the version that the item shows."""
    return f'"v{item.version}"'


def _names(condition: str, item: Item) -> bool:
    """Whether a condition names the version that the item shows (RFC 9110, 8.8.3.2: strongly)."""
    return _etag(item) in [tag.strip() for tag in condition.split(",")]


def _is_known(if_none_match: str | None, item: Item) -> bool:
    """The same weakly: a proxy that compresses makes a validator weak."""
    return if_none_match is not None and _names(if_none_match.replace("W/", ""), item)


def _headers(item: Item) -> dict[str, str]:
    return {"ETag": _etag(item), "Cache-Control": "private, no-cache"}


def _unchanged(item: Item) -> Response:
    return Response(status_code=304, headers=_headers(item))
