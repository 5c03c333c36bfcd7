"""Writes to a destination through boto3, against a server that compares as Amazon S3 does."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest

from shared.errors import DestinationRefusedError
from shared.object_url import ObjectUrl
from shared.published_results import mark, publish
from shared.settings import Settings
from shared.storage import WRITER, Storage
from tests.http_servers import LocalHTTPServer

PLACE = ObjectUrl("shop", "cut/ü 1.png")
T = datetime(2026, 11, 26, tzinfo=UTC)
FIRST, SECOND = mark(T, "a"), mark(T + timedelta(seconds=1), "a")


class Comparing(LocalHTTPServer):
    """Objects in memory, with conditional writes (Amazon S3 user guide)."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.before_write: list[Callable[[], object]] = []
        self.heads_refused = False
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Comparing

    def do_HEAD(self) -> None:
        if self.server.heads_refused:
            self._answer(403)
        elif (found := self.server.objects.get(self.path)) is None:
            self._answer(404)
        else:
            headers = {"ETag": _etag(found[0]), f"x-amz-meta-{WRITER}": found[1]}
            self._answer(200, headers=headers)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.before_write:
            self.server.before_write.pop()()
        found = self.server.objects.get(self.path)
        wanted, unwanted = self.headers["If-Match"], self.headers["If-None-Match"]
        if wanted and found is None:
            self._refuse(404, "NoSuchKey")
        elif (wanted and found and wanted != _etag(found[0])) or (unwanted and found):
            self._refuse(412, "PreconditionFailed")
        else:
            self.server.objects[self.path] = (data, self.headers[f"x-amz-meta-{WRITER}"])
            self._answer(200, headers={"ETag": _etag(data)})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@pytest.fixture
def server() -> Iterator[Comparing]:
    server = Comparing()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def s3_there(server: Comparing) -> Iterator[Storage]:
    url = f"http://127.0.0.1:{server.server_port}"
    settings = Settings.model_validate(
        {"s3_endpoint_url": url, "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    )
    storage = Storage(settings)
    yield storage
    storage.close()


def write(storage: Storage, data: bytes, writer: str) -> None:
    publish(storage, PLACE, data, "image/png", writer=writer)


def lies_there(server: Comparing) -> list[tuple[bytes, str]]:
    return list(server.objects.values())


def test_an_object_that_another_writer_replaced_meanwhile_is_looked_at_again(
    server: Comparing, s3_there: Storage
) -> None:
    server.before_write = [lambda: write(s3_there, b"2", SECOND)]
    write(s3_there, b"late", FIRST)
    assert lies_there(server) == [(b"2", SECOND)]
    write(s3_there, b"late", FIRST)
    assert lies_there(server) == [(b"2", SECOND)]


def test_an_object_that_was_deleted_meanwhile_is_written_again(
    server: Comparing, s3_there: Storage
) -> None:
    write(s3_there, b"1", FIRST)
    server.before_write = [server.objects.clear]
    write(s3_there, b"2", SECOND)
    assert lies_there(server) == [(b"2", SECOND)]


def test_a_file_of_somebody_is_not_replaced_unseen(server: Comparing, s3_there: Storage) -> None:
    server.heads_refused = True
    write(s3_there, b"1", FIRST)
    with pytest.raises(DestinationRefusedError, match="does not allow reading it"):
        write(s3_there, b"2", SECOND)
    assert lies_there(server) == [(b"1", FIRST)]
