"""/v1/watches: prefixes whose new objects are cut out."""

import uuid
from collections.abc import Callable
from functools import partial

from fastapi import APIRouter

from api.http.auth import Caller, CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.problems import responses
from api.resources import Resources, ResourcesDep
from api.schemas.watches import WatchList, WatchOut, WatchRequest
from api.sources.destination_policy import check_destination
from api.sources.source_policy import SourcePolicy
from shared import job_store
from shared.database import Session
from shared.destination import fixed_folder, given_placeholders, refuse_unknown
from shared.errors import (
    DestinationMissingError,
    ForbiddenDestinationError,
    ForbiddenSourceError,
    InvalidOptionsError,
    SourceDeniedError,
    SourceNotFoundError,
    StorageError,
    TooManyWatchesError,
    UnknownModelError,
    WatchNotFoundError,
)
from shared.models import Watch
from shared.object_url import ObjectUrl

router = APIRouter(route_class=GuardedRoute, prefix="/v1/watches", tags=["watches"])


@router.post(
    "",
    status_code=201,
    responses=responses(
        DestinationMissingError,
        ForbiddenDestinationError,
        ForbiddenSourceError,
        InvalidOptionsError,
        SourceDeniedError,
        SourceNotFoundError,
        StorageError,
        TooManyWatchesError,
        UnknownModelError,
    ),
)
def create_watch(body: WatchRequest, resources: ResourcesDep, caller: CallerDep) -> WatchOut:
    """Watch a prefix: each new object becomes an image, once. Every look that finds new objects
    submits one job; its `metadata` names the watch. An object whose bytes change counts as new.
    """
    settings = resources.settings
    if body.every_s < settings.watch_min_every_s:
        raise InvalidOptionsError(f"`every_s` must be at least {settings.watch_min_every_s}.")
    policy = SourcePolicy(settings, caller.api_key_id, caller.sources)
    place = policy.prefix(body.prefix)
    policy.options(body.options)
    refuse_unknown(given_placeholders(body.destination, body.options), ())
    if body.destination is not None:
        check_destination(settings, caller.writable_folders, body.destination)
        _refuse_loop(place, body.destination)
        bucket = fixed_folder(body.destination).bucket
        if not resources.storage.has_bucket(bucket):
            raise DestinationMissingError(f"There is no bucket {bucket}")
    resources.storage.list_objects(place, after=None, limit=1)  # a missing bucket is told here
    with resources.database.transaction() as session:
        watch = job_store.create_watch(
            session,
            api_key_id=caller.api_key_id,
            prefix=str(place),
            options=body.options.model_dump(mode="json"),
            destination=body.destination,
            priority=body.priority,
            labels=dict(body.metadata),
            every_s=body.every_s,
            existing=body.existing,
            ascending=body.ascending,
            limit=settings.max_watches_per_key,
        )
        answer = WatchOut.of(watch)
    resources.watcher.wake()
    return answer


@router.get("")
def list_watches(resources: ResourcesDep, caller: CallerDep) -> WatchList:
    """Your watches, oldest first."""
    with resources.database.transaction() as session:
        found = job_store.list_watches(session, api_key_id=caller.api_key_id)
        return WatchList(watches=[WatchOut.of(watch) for watch in found])


@router.get("/{watch_id}", responses=responses(WatchNotFoundError))
def get_watch(watch_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> WatchOut:
    """One watch."""
    return _change(None, resources, caller, watch_id)


@router.post("/{watch_id}/pause", responses=responses(WatchNotFoundError))
def pause_watch(watch_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> WatchOut:
    """Stop looking. Images that were submitted are processed."""
    return _change(job_store.pause_watch, resources, caller, watch_id)


@router.post("/{watch_id}/resume", responses=responses(WatchNotFoundError))
def resume_watch(watch_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> WatchOut:
    """Look again, at once. Objects that came during the pause are new. It also repeats a look that
    failed.
    """
    answer = _change(job_store.resume_watch, resources, caller, watch_id)
    resources.watcher.wake()
    return answer


@router.post("/{watch_id}/look", status_code=202, responses=responses(WatchNotFoundError))
def ask_for_look(watch_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> WatchOut:
    """Look soon: for notifications of a bucket, which may send any body here when an object comes.
    Many at once lead to one look, and the next one begins no sooner than the service's shortest
    interval after it. A watch that is paused, or that fails, does not look sooner.
    """
    pause_s = resources.settings.watch_min_every_s
    answer = _change(partial(job_store.ask_for_look, pause_s=pause_s), resources, caller, watch_id)
    resources.watcher.wake()
    return answer


@router.delete("/{watch_id}", status_code=204, responses=responses(WatchNotFoundError))
def delete_watch(watch_id: uuid.UUID, resources: ResourcesDep, caller: CallerDep) -> None:
    """Stop looking, and forget what was seen. Its jobs and their results stay."""
    _change(job_store.delete_watch, resources, caller, watch_id)
    resources.watcher.wake()


def _refuse_loop(prefix: ObjectUrl, destination: str) -> None:
    """Raise InvalidOptionsError if results would come to the watched prefix."""
    folder = str(fixed_folder(destination))
    if folder.startswith(str(prefix)) or str(prefix).startswith(folder):
        raise InvalidOptionsError(
            f"The destination {folder} and the watched prefix {prefix} lie in each other, so each "
            "result would be cut out again. Write the results to another folder."
        )


def _change(
    change: Callable[[Session, Watch], None] | None,
    resources: Resources,
    caller: Caller,
    watch_id: uuid.UUID,
) -> WatchOut:
    with resources.database.transaction() as session:
        watch = job_store.get_watch(
            session, watch_id, api_key_id=caller.api_key_id, to_change=change is not None
        )
        if watch is None:
            raise WatchNotFoundError(f"There is no watch {watch_id}")
        if change is not None:
            change(session, watch)
        return WatchOut.of(watch)
