"""The worker's HTTP endpoints: metrics, liveness and readiness.

They answer from the start of the process, so that a liveness probe does not kill a worker that is
warming up.
"""

import json
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from shared.errors import SetupError
from worker.concurrency.watchdog import Watchdog

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

State = Literal["warming", "warm", "stopping"]


class Probes:
    """`/metrics`; `/healthz`: 200 unless the process hangs; `/readyz`: 200 while the worker is warm
    and consumes messages.
    """

    def __init__(self, watchdog: Watchdog) -> None:
        """Does not listen yet. The process counts as hanging when the watchdog no longer ticks."""
        self.state: State = "warming"
        self._watchdog = watchdog
        self._metrics = make_wsgi_app()

    def serve(self, port: int) -> Callable[[], None]:
        """Start listening; returns a function that stops it. Raises SetupError."""
        try:
            server = make_server("", port, self._answer, _Server, _Silent)
        except OSError as error:
            raise SetupError(
                f"MATTING_WORKER_METRICS_PORT={port} can't be used ({error}): give each worker of "
                "a machine its own"
            ) from error
        thread = Thread(target=server.serve_forever, name="probes", daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop

    def _answer(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics(environ, start_response)
                return answer
            case "/healthz":
                good = self._watchdog.turns()
                said = {"status": "ok" if good else "the watchdog hangs"}
            case "/readyz":
                good = self.state == "warm"
                said = {"status": self.state}
            case _:
                start_response("404 Not Found", [])
                return []
        status = "200 OK" if good else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(said).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    timeout = 10
    """Seconds that a connection may stay silent."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes arrive every few seconds."""
