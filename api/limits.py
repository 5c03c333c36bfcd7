"""Bounds what a request may send, before anything reads it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import render
from shared.errors import RequestTooLargeError


class BodyLimit:
    """ASGI middleware: bodies over `max_bytes` get a 413, whether they say their length or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise RequestTooLargeError(f"The limit is {self._max_bytes:,} bytes")
            return message

        await self._app(scope, counted, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = RequestTooLargeError(f"The limit is {self._max_bytes:,} bytes")
        await render(error)(scope, receive, send)
