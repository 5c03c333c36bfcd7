"""The page that makes a job: photos or a source, options, a trial, the estimate."""

from fastapi import APIRouter, Request, Response

from api.console.page_route import PageRoute
from api.console.rendering import page
from api.http.auth import CallerDep
from api.resources import ResourcesDep
from api.routes.presets import list_presets
from shared.clip_format import ClipFormat
from shared.jobs import Scope
from shared.rendition import Format

router = APIRouter(route_class=PageRoute, prefix="/console", include_in_schema=False)


@router.get("/new")
def new_job(request: Request, resources: ResourcesDep, caller: CallerDep) -> Response:
    """A new job. Raises ScopeError for a key that only reads."""
    caller.require(Scope.SUBMIT)
    return page(
        request,
        resources,
        "new.html",
        presets=list_presets(caller).presets,
        formats=[one.value for one in Format],
        clip_formats=[one.value for one in ClipFormat],
        models=resources.settings.offered_models,
        key_id=caller.api_key_id,
        bucket=resources.settings.s3_bucket,
        max_image_bytes=resources.settings.max_image_bytes,
        max_clip_bytes=resources.settings.max_clip_bytes,
    )
