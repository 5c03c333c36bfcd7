"""The server side of a connection: `uvicorn --http api.http.connections:HeaderTimeoutProtocol`."""

import asyncio
import threading

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.http.limits import MIN_BYTES_PER_S
from shared.settings import get_settings

READ_BYTES = 64 * 1024
"""Read from a connection at a time; asyncio by itself reads four times as much."""


class _Buffer(threading.local):
    """What each read goes through: its bytes are copied before the next, so one does for all
    connections of an event loop.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))


_buffer = _Buffer()


class HeaderTimeoutProtocol(H11Protocol, asyncio.BufferedProtocol):
    """Uvicorn's own protocol, which closes connections whose headers don't come to their end, and
    takes of a body no more than the application asks for.

    By itself it waits for ever, so a few thousand callers who never finish would use up the
    process's file descriptors; and it reads ahead, so that who has no key fills the memory while
    the key is looked up. How long a body may take is another limit (api.http.limits).
    """

    _deadline: asyncio.TimerHandle | None = None
    _look_at_reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._forget()
        self.resume_writing()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio reads to."""
        return _buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read."""
        self.data_received(bytes(_buffer.view[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Once the headers are complete, the rest is the application's to wait for."""
        super().data_received(data)
        if self._answered():
            return  # what still comes of the body is thrown away, until the deadline
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        if self.conn.their_state is h11.SEND_BODY:
            self.flow.pause_reading()  # the application's `receive` resumes it

    def on_response_complete(self) -> None:
        """Wait for the next request, and not for ever for the rest of a body that nobody reads."""
        super().on_response_complete()
        self._expect()

    def pause_writing(self) -> None:
        """The caller reads less than it is sent: from now on it must go on reading."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has read most of it."""
        if self._look_at_reader is not None:
            self._look_at_reader.cancel()
            self._look_at_reader = None
        super().resume_writing()

    def _watch_reader(self, unread_bytes: int) -> None:
        period_s = get_settings().body_timeout_s
        self._look_at_reader = self.loop.call_later(period_s, self._close_if_unread, unread_bytes)

    def _close_if_unread(self, before_bytes: int) -> None:
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes > before_bytes - MIN_BYTES_PER_S * get_settings().body_timeout_s:
            self.transport.abort()
        else:
            self._watch_reader(unread_bytes)

    def _should_upgrade(self) -> bool:
        """Never: there are no WebSockets here; asking for one is worth no line in the log."""
        return False

    def _answered(self) -> bool:
        """Whether the request at hand has its answer; its body may still be coming."""
        return self.cycle is not None and self.cycle.response_complete

    def _expect(self) -> None:
        self._forget()
        self._deadline = self.loop.call_later(get_settings().headers_timeout_s, self._close_if_idle)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_if_idle(self) -> None:
        waits = self.conn.their_state is h11.IDLE or self._answered()
        if waits and not self.transport.is_closing():
            self.transport.close()
