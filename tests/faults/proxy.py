"""A TCP proxy in front of Redis, PostgreSQL and S3 that can delay, refuse and reset connections."""

import random
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

CHUNK_BYTES = 64 * 1024
METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Busy.</Message></Error>"
BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(SLOW_DOWN), SLOW_DOWN)
)


@dataclass
class Weather:
    """The state of the network. May be changed at any time."""

    down: bool = False
    """Whether all connections, new ones too, are reset."""
    delay_s: float = 0.0
    """Delay before each piece of data, in each direction."""
    busy_share: float = 0.0
    """Share of HTTP requests that get a 503."""
    reset_share: float = 0.0
    """Share of HTTP requests whose connection is reset."""


class Proxy:
    """Listens on a free port until `close` is called."""

    def __init__(self, target: "tuple[str, int] | str", seed: int) -> None:
        """`target` is host and port, or the path of a Unix socket."""
        self.weather = Weather()
        self._target = target
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._closed = True
        self._listener.close()
        self.reset_all()

    def reset_all(self) -> None:
        """Reset every connection."""
        for pair in list(self._pairs):
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RD)  # wakes the forwarding thread, which resets both

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self.weather.down:
                raise ConnectionRefusedError
            server = self._connect()
        except OSError:
            _reset(client)
            return
        pair = (client, server)
        self._pairs.add(pair)
        try:
            self._carry(client, server)
        except OSError:
            pass
        finally:
            self._pairs.discard(pair)
            for one in pair:
                _reset(one)

    def _connect(self) -> socket.socket:
        if isinstance(self._target, str):
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                server.close()
                raise
            return server
        return socket.create_connection(self._target, timeout=5)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([client, server], [], [], 0.2)
            if self.weather.down or self._closed:
                return
            for source in ready:
                data = source.recv(CHUNK_BYTES)
                if not data:
                    return
                if self.weather.delay_s:
                    time.sleep(self.weather.delay_s)
                if source is client and data.startswith(METHODS):
                    luck = self._random.random()
                    if luck < self.weather.reset_share:
                        return
                    if luck < self.weather.reset_share + self.weather.busy_share:
                        client.sendall(BUSY)
                        return
                (server if source is client else client).sendall(data)


def _reset(one: socket.socket) -> None:
    """Close with an RST, so that the other side sees a broken connection instead of an end."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
