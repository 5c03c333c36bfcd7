"""The server side of a connection: `uvicorn --http api.http.connections:HeaderTimeoutProtocol`."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from shared.settings import get_settings


class HeaderTimeoutProtocol(H11Protocol):
    """Uvicorn's own protocol, which closes connections whose headers don't come to their end.

    By itself it waits for ever, so a few thousand callers who never finish would use up the
    process's file descriptors. Bodies have limits of their own (api.http.limits).
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Once the headers are complete, the rest is the application's to wait for."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._expect()

    def _expect(self) -> None:
        self._forget()
        self._deadline = self.loop.call_later(get_settings().headers_timeout_s, self._close_if_idle)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_if_idle(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
