"""The server side of a connection: `uvicorn --http api.http.connections:HeaderTimeoutProtocol`."""

import asyncio
import re
import threading

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.http.limits import MIN_BYTES_PER_S
from shared.settings import get_settings

READ_BYTES = 64 * 1024
"""Bytes read from a connection at a time; asyncio's default is four times as much."""

HEADERS_BYTES = 16 * 1024
"""Most bytes of a request's headers, as with Uvicorn alone."""

MAX_HEADERS = 100
"""Most headers of a request; browsers send about twenty. Parsing 3,000 takes 6 ms, in which nobody
else is served.
"""

FREE_PIECES, MIN_PIECE_BYTES = 200, 32
"""A body that comes in more pieces has at least so many bytes a piece."""

HEADERS_END = re.compile(rb"\n\r?\n")


class _Buffer(threading.local):
    """The read buffer. Its bytes are copied before the next read, so one buffer serves all
    connections of an event loop.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))


_buffer = _Buffer()


class BoundedConnection(h11.Connection):
    """The parser of a connection. It refuses a body that comes in very many tiny chunks: reading a
    chunk takes as long as reading a large one, so 64 KB of them held up everybody for 0.1 s.
    """

    _pieces = _body_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event. Raises h11.RemoteProtocolError."""
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._pieces += 1
            self._body_bytes += len(event.data)
            if self._pieces > FREE_PIECES + self._body_bytes // MIN_PIECE_BYTES:
                raise h11.RemoteProtocolError("The body comes in very many tiny pieces")
        elif isinstance(event, h11.Request):
            self._pieces = self._body_bytes = 0
        return event


class HeaderTimeoutProtocol(H11Protocol, asyncio.BufferedProtocol):
    """Uvicorn's protocol with four additions: it closes connections whose headers do not arrive
    completely, refuses very many headers before it parses them and bodies in tiny chunks, and reads
    a body only as fast as the application asks for it.

    Uvicorn alone waits forever, so a few thousand idle callers would use up the file descriptors.
    It also reads ahead, so a caller without a key could fill the memory while its key is being
    looked up. api.http.limits limits how long a body may take.
    """

    _deadline: asyncio.TimerHandle | None = None
    _look_at_reader: asyncio.TimerHandle | None = None
    _header_lines = 0
    """Lines of the headers that have arrived so far."""
    _last_bytes = b""
    """The last of these bytes: the end of the headers may arrive in pieces."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline for the first request."""
        super().connection_made(transport)
        limit_bytes = self.config.h11_max_incomplete_event_size or HEADERS_BYTES
        self.conn = BoundedConnection(h11.SERVER, limit_bytes)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        self._forget()
        self.resume_writing()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer that asyncio reads into."""
        return _buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        """Process the bytes that were read."""
        self.data_received(bytes(_buffer.view[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Once the headers are complete, the application waits for the body."""
        if self.conn.their_state is h11.IDLE and self._has_too_many_headers(data):
            self.send_400_response(f"A request has at most {MAX_HEADERS} headers")
            return
        super().data_received(data)
        if self._answered():
            return  # the rest of the body is discarded until the deadline
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        if self.conn.their_state is h11.SEND_BODY:
            self.flow.pause_reading()  # the application's `receive` resumes reading

    def _has_too_many_headers(self, data: bytes) -> bool:
        """Count the lines of the headers. Requests that arrive behind another one on the same
        connection are not counted: they are parsed one at a time, each after an answer.
        """
        text = self._last_bytes + data
        end = HEADERS_END.search(text)
        stop = end.start() + 1 if end else None
        self._header_lines += text.count(b"\n", len(self._last_bytes), stop)
        self._last_bytes = text[-2:]
        too_many = self._header_lines > MAX_HEADERS + 1  # with the request line
        if end:
            self._header_lines, self._last_bytes = 0, b""
        return too_many

    def on_response_complete(self) -> None:
        """Start the deadline for the next request, also for the rest of a body that
        nobody reads.
        """
        super().on_response_complete()
        self._expect()

    def pause_writing(self) -> None:
        """The caller reads more slowly than the response is sent: from now on it must
        keep reading.
        """
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The caller has read most of it."""
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
        """Never upgrade: the API has no WebSockets. A request for one is not worth a log line."""
        return False

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP. Behind a response that ends its connection (HTTP/1.0) there is
        nothing left to answer. Where the application was about to answer, it is told that the
        caller has gone.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _answered(self) -> bool:
        """Whether the current request has its response; its body may still be arriving."""
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
