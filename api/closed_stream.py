"""Responses in pieces that hold something open: a connection to the storage, a file, a place."""

from collections.abc import Callable, Iterator, Mapping

from anyio import CancelScope
from anyio.to_thread import run_sync
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class ClosedStream(StreamingResponse):
    """A response that calls `close` in a thread when it has ended. A caller who goes away must not
    leave that to the garbage collector, which would do it in the event loop.
    """

    def __init__(
        self,
        pieces: Iterator[bytes],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        *,
        close: Callable[[], None],
    ) -> None:
        super().__init__(pieces, status_code, headers, media_type)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_sync(self._close)
