"""The page of the system: workers, queues, last errors, keys, usage, webhooks."""

from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response

from api.console.page_route import PageRoute
from api.console.rendering import page
from api.http.auth import CallerDep
from api.resources import ResourcesDep
from api.routes.health import readyz
from api.routes.keys import list_keys
from api.routes.system import FailureOut, get_system, list_failures
from api.routes.usage import get_usage
from shared.jobs import Scope

router = APIRouter(route_class=PageRoute, prefix="/console", include_in_schema=False)

FAILURES = 200
"""The last failures, which are counted by code."""
EXAMPLES = 3
"""Images shown of each code."""


@dataclass
class Failures:
    """The last failures with one code, newest first."""

    code: str
    remedy: str
    count: int = 0
    examples: list[FailureOut] = field(default_factory=list)


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


@router.get("/system/failures")
def failures(request: Request, resources: ResourcesDep, caller: CallerDep) -> Response:
    """The last errors by code, the most frequent first. Raises ScopeError."""
    found: dict[str, Failures] = {}
    for one in list_failures(resources, caller, limit=FAILURES).failures:
        of_code = found.setdefault(one.code, Failures(one.code, one.remedy))
        of_code.count += 1
        if len(of_code.examples) < EXAMPLES:
            of_code.examples.append(one)
    by_count = sorted(found.values(), key=lambda one: -one.count)
    return page(
        request,
        resources,
        "system_failures.html",
        failures=by_count,
        most=FAILURES,
        own=caller.api_key_id,
    )


@router.get("/system/keys")
def keys(request: Request, resources: ResourcesDep, caller: CallerDep) -> Response:
    """All API keys. Raises ScopeError."""
    found = list_keys(resources, caller).keys
    return page(request, resources, "system_keys.html", keys=found, own=caller.api_key_id)


@router.get("/system/usage")
def usage(request: Request, resources: ResourcesDep, caller: CallerDep) -> Response:
    """Usage by month: the caller's own, or with the scope admin everybody's."""
    admin = Scope.ADMIN in caller.scopes
    found = get_usage(resources, caller, every_key=admin, jobs=0)
    return page(request, resources, "system_usage.html", usage=found)
