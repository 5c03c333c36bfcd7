"""A webhook receiver that answers as planned and keeps the requests."""

import threading
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from standardwebhooks import Webhook

from tests.http_servers import LocalHTTPServer

HANG, DRIP = "hang", "drip"


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        return Webhook(secret).verify(self.body, self.headers)


class Receiver(LocalHTTPServer):
    """Answers each path with its planned answers, and then with 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plans: defaultdict[str, list[int | str | tuple[int, str]]] = defaultdict(list)
        """Planned answers by path: statuses, alone or with a `Retry-After`, HANG, or DRIP."""
        self.received: defaultdict[str, list[Received]] = defaultdict(list)
        self.released = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        plan = self.server.plans[self.path]
        answer = plan.pop(0) if plan else 204
        self.server.received[self.path].append(Received(headers, body))
        if answer == HANG:
            self.server.released.wait(180)
            return
        if answer == DRIP:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not self.server.released.wait(0.2):
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return
            return
        if isinstance(answer, tuple):
            answer, retry_after = answer
            self.send_response(answer)
            self.send_header("Retry-After", retry_after)
            self.end_headers()
            return
        self.send_response(int(answer))
        if answer == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
