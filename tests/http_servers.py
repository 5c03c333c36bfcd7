"""HTTP servers for tests: a client that leaves is expected, any other error fails the test."""

import socketserver
import sys
from http.server import ThreadingHTTPServer
from typing import Any


class CheckedErrors(socketserver.BaseServer):
    """A server that remembers what went wrong in its handlers, and raises it when it is closed.

    The standard library prints a traceback instead, in the middle of the test run.
    """

    errors: list[BaseException]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.errors = []
        super().__init__(*args, **kwargs)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Remember the error of a handler, unless the client closed the connection."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.errors.append(error)

    def server_close(self) -> None:
        """Close the socket; raises the first error that a handler met."""
        super().server_close()
        if self.errors:
            raise self.errors[0]


class LocalHTTPServer(CheckedErrors, ThreadingHTTPServer):
    """An HTTP server for one test, a thread a connection."""
