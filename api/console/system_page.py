"""The page of the system: workers, queues, keys, usage, webhooks."""

from fastapi import APIRouter, Request, Response

from api.console.page_route import PageRoute
from api.console.rendering import page
from api.http.auth import CallerDep
from api.resources import ResourcesDep
from api.routes.health import readyz
from api.routes.system import get_system, list_keys
from api.routes.usage import get_usage
from shared.jobs import Scope

router = APIRouter(route_class=PageRoute, prefix="/console", include_in_schema=False)


@router.get("/system")
async def system(request: Request, resources: ResourcesDep, caller: CallerDep) -> Response:
    """All that is known of the system; without the scope admin, the caller's own."""
    return await _show(request, resources, caller, "system.html")


@router.get("/system/parts")
async def parts(request: Request, resources: ResourcesDep, caller: CallerDep) -> Response:
    """Workers and queues alone; the page asks for them every few seconds."""
    return await _show(request, resources, caller, "system_parts.html")


async def _show(
    request: Request, resources: ResourcesDep, caller: CallerDep, template: str
) -> Response:
    admin = Scope.ADMIN in caller.scopes
    return page(
        request,
        resources,
        template,
        ready=await readyz(resources, Response()),
        known=await get_system(resources, caller) if admin else None,
    )


@router.get("/system/accounts")
def accounts(request: Request, resources: ResourcesDep, caller: CallerDep) -> Response:
    """Keys and usage."""
    admin = Scope.ADMIN in caller.scopes
    return page(
        request,
        resources,
        "system_accounts.html",
        keys=list_keys(resources, caller).keys if admin else None,
        usage=get_usage(resources, caller, every_key=admin, jobs=0),
    )
