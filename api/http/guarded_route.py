"""The route class for endpoints that need a key: it authenticates before it reads a byte of the
body, and limits the body by route.
"""

import errno
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api.http.auth import SAFE_METHODS, Caller, authenticate
from api.http.limits import MeasuredBody, limits_of
from api.removebg import answers as removebg_answers
from api.resources import Resources
from shared.errors import BusyError, InvalidOptionsError, UnsupportedEncodingError
from shared.suggestions import did_you_mean
from shared.telemetry import get_logger
from shared.validation_words import SHOWN_CHARS

log = get_logger("audit")

CACHE_BUSTER = "v"
"""A parameter that any request may carry: pages put a version there, for browsers' caches."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class GuardedRoute(APIRoute):
    """Use it as a router's `route_class`. FastAPI alone reads the body first and authenticates
    afterwards.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's hook for code that runs before an endpoint."""
        handle = super().get_route_handler()
        limits = limits_of(self.endpoint)
        # An endpoint with a `request` parameter reads the body by itself.
        reads_whole = self.body_field is not None
        # remove.bg's clients may send more than this service knows.
        lenient = self.path.startswith(removebg_answers.PATH)
        query_names = sorted(field.alias for field in self.dependant.query_params)

        async def guarded(request: Request) -> Response:
            resources: Resources = request.app.state.resources
            caller = await authenticate(request, resources)
            if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise UnsupportedEncodingError
            if not lenient:
                _refuse_unknown(request.query_params, query_names)
            multipart = media_type(request).startswith("multipart/")
            limit_of = limits.multipart_bytes if multipart else limits.memory_bytes
            with resources.body_memory.share_of(caller.api_key_id) as memory:
                body = MeasuredBody(
                    request.receive,
                    limit_bytes=limit_of(resources.settings),
                    timeout_s=resources.settings.body_timeout_s,
                    memory=None if multipart and not reads_whole else memory,
                )
                body.announce(request.headers.get("content-length"))
                measured = Request(request.scope, body.receive)
                if reads_whole:
                    await measured.body()  # read here, so that a refusal keeps its status
                try:
                    response = await handle(measured)
                    if request.method not in SAFE_METHODS:
                        _note(request, caller, response.status_code)
                    return response
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    raise BusyError("The disk has no space for the request's files") from error

        return guarded


def _note(request: Request, caller: Caller, status: int) -> None:
    """The audit log: who changed what. The line has the request's id too, as all lines have."""
    line: dict[str, object] = {
        "key_id": str(caller.api_key_id),
        "key_name": caller.name,
        "method": request.method,
        "route": request.scope["route"].path,
        "status": status,
    }
    # A path may name another key: the one that is revoked.
    named = {
        f"named_{name}" if name in line else name: value
        for name, value in request.path_params.items()
    }
    log.info("audit", **line, **named)


def _refuse_unknown(given: Iterable[str], names: Collection[str]) -> None:
    """Raise InvalidOptionsError for a query parameter that the endpoint does not have: a typing
    error must not list all images instead of the failed ones.
    """
    for name in given:
        if name not in names and name != CACHE_BUSTER:
            shown = name if len(name) <= SHOWN_CHARS else name[:SHOWN_CHARS] + "…"
            raise InvalidOptionsError(
                f"Unknown query parameter `{shown}`. {did_you_mean(name, names)}"
            )


def media_type(request: Request) -> str:
    """The Content-Type without its parameters, in lower case; every kind of JSON is
    `application/json` (RFC 6839, 3.1).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return "application/json" if kind == "text/json" or kind.endswith("+json") else kind
