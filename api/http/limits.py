"""Bounds what a request may send, before anything reads it, and how slowly."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problems import render
from shared.errors import MattingError, RequestTooLargeError, SlowRequestError
from shared.settings import Settings

MIN_BYTES_PER_S = 1_000
"""A body that drips in more slowly than this, all in all, is cut off."""


class BodyLimit:
    """ASGI middleware: bodies that are too large get a 413, whether they say their length or not;
    those that stop coming a 408. Only multipart is written to disk as it comes, so all others have
    a smaller limit.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        multipart = headers.get(b"content-type", b"").lower().startswith(b"multipart/")
        settings = self._settings
        limit = settings.max_request_bytes if multipart else settings.max_json_bytes
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            await render(_too_large(limit), scope["path"])(scope, receive, send)
            return
        received, waited_s, ended, answering = 0, 0.0, False, False

        async def counted() -> Message:
            nonlocal received, waited_s, ended
            if ended:  # what comes now is the client going away: that may take its time
                return await receive()
            began = time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), settings.body_timeout_s)
            except TimeoutError as error:
                raise SlowRequestError(
                    f"No more of the body came for {settings.body_timeout_s:.0f} s"
                ) from error
            waited_s += time.monotonic() - began
            received += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            patience_s = settings.body_timeout_s + received / MIN_BYTES_PER_S
            if not ended and waited_s > patience_s:
                raise SlowRequestError(f"The body came at less than {MIN_BYTES_PER_S:,} bytes/s")
            if received > limit:
                raise _too_large(limit)
            return message

        async def noted(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except (RequestTooLargeError, SlowRequestError) as error:
            if answering:
                raise
            await render(error, scope["path"])(scope, receive, send)


def _too_large(limit: int) -> MattingError:
    return RequestTooLargeError(f"The limit is {limit:,} bytes")
