"""The class of every route that needs a key: the caller is known before a byte of the body is read,
and the body is bounded by what the route takes.
"""

import errno
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api.http.auth import authenticate
from api.http.limits import MeasuredBody, limits_of
from api.resources import Resources
from shared.errors import BusyError, UnsupportedEncodingError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class GuardedRoute(APIRoute):
    """Give it to a router as `route_class`. FastAPI by itself reads the body first, and asks then
    who sent it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own way to stand before an endpoint."""
        handle = super().get_route_handler()
        limits = limits_of(self.endpoint)
        # An endpoint that takes the request reads the body by itself, as it likes.
        reads_whole = self.body_field is not None

        async def guarded(request: Request) -> Response:
            resources: Resources = request.app.state.resources
            caller = await authenticate(request, resources)
            if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise UnsupportedEncodingError
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
                    await measured.body()  # here, where a refusal keeps its status
                try:
                    return await handle(measured)
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    raise BusyError("There is no room on the disk for what was sent") from error

        return guarded


def media_type(request: Request) -> str:
    """The Content-Type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
