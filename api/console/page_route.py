"""The route class of the console's pages: a session is needed, and errors are pages too."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from api.console.rendering import page
from api.http.auth import authenticate_page
from api.resources import Resources
from shared.errors import MattingError, UnauthorizedError

SIGN_IN = "/console/sign-in"

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])


def without_session(endpoint: Endpoint) -> Endpoint:
    """Mark a page that anyone may see. Use it below the decorator of the route."""
    endpoint.open_to_all = True  # type: ignore[attr-defined]
    return endpoint


class PageRoute(APIRoute):
    """Use it as a router's `route_class`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's hook for code that runs before an endpoint."""
        handle = super().get_route_handler()
        guarded = not getattr(self.endpoint, "open_to_all", False)

        async def show(request: Request) -> Response:
            resources: Resources = request.app.state.resources
            try:
                if guarded:
                    await authenticate_page(request, resources)
                return await handle(request)
            except UnauthorizedError as error:
                return _to_sign_in(request, ended=error.code == "session-ended")
            except MattingError as error:
                return page(request, resources, "error.html", status=error.http_status, error=error)

        return show


def _to_sign_in(request: Request, *, ended: bool) -> Response:
    part = request.headers.get("hx-request") == "true"
    if part:
        after = _path_of(request.headers.get("hx-current-url", "/console/jobs"))
    else:
        after = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    place = f"{SIGN_IN}?{'ended=1&' if ended else ''}next={quote(after)}"
    if part:  # htmx would put the sign-in page into the part
        return Response(headers={"HX-Redirect": place})
    return RedirectResponse(place, 303)


def _path_of(url: str) -> str:
    return "/" + url.split("://")[-1].partition("/")[2] if "://" in url else url


def own_page(path: str) -> str:
    """A page of the console that may follow the sign-in: no other site, and no file."""
    return path if path.startswith("/console/") and "\\" not in path else "/console/jobs"
