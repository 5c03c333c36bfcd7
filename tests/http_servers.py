"""HTTP servers for tests. Clients may disconnect; any other error in a handler fails the test."""

import socketserver
import sys
from http.server import ThreadingHTTPServer
from typing import Any


class CheckedErrors(socketserver.BaseServer):
    """A server that collects the errors of its handlers and raises the first one when it closes.

    The standard library only prints a traceback in the middle of the test run.
    """

    errors: list[BaseException]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.errors = []
        super().__init__(*args, **kwargs)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Collect the error, unless the client closed the connection."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.errors.append(error)

    def server_close(self) -> None:
        """Close the socket. Raises the first error of a handler."""
        super().server_close()
        if self.errors:
            raise self.errors[0]


class LocalHTTPServer(CheckedErrors, ThreadingHTTPServer):
    """An HTTP server for one test, with one thread per connection."""
