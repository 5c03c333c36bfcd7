"""The object storage: reading, writing, deleting, and which errors are temporary."""

import io
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import httpx
import libfaketime  # type: ignore[import-untyped]
import pytest

from shared.errors import (
    BucketMissingError,
    FileTooLargeError,
    ForbiddenSourceError,
    SourceNotFoundError,
    StorageError,
    StorageKeyError,
)
from shared.object_url import ObjectUrl
from shared.settings import Settings
from shared.storage import Storage
from tests.http_servers import LocalHTTPServer


def test_a_stored_object_can_be_read(storage: Storage) -> None:
    storage.put("a/b.bin", b"hello", "application/octet-stream")
    assert storage.get(storage.bucket, "a/b.bin", 100) == b"hello"
    storage.upload("a/c.bin", io.BytesIO(b"stream"))
    assert storage.get(storage.bucket, "a/c.bin", 100) == b"stream"


def test_a_missing_object_and_a_missing_bucket_are_not_found(storage: Storage) -> None:
    with pytest.raises(SourceNotFoundError):
        storage.get(storage.bucket, "no/such/key", 100)
    with pytest.raises(SourceNotFoundError):
        storage.get("no-such-bucket", "key", 100)


def test_an_object_that_is_too_large_is_not_read(storage: Storage) -> None:
    storage.put("large", b"x" * 1_000, "application/octet-stream")
    with pytest.raises(FileTooLargeError):
        storage.get(storage.bucket, "large", 999)
    assert len(storage.get(storage.bucket, "large", 1_000)) == 1_000


def test_listing_continues_after_a_page(storage: Storage) -> None:
    for number in range(25):
        storage.put(f"list/{number:03d}.jpg", b"x", "image/jpeg")
    first = storage.list_page(ObjectUrl(storage.bucket, "list/"), after=None)
    assert first == [f"list/{number:03d}.jpg" for number in range(25)]
    rest = storage.list_page(ObjectUrl(storage.bucket, "list/"), after="list/019.jpg")
    assert rest == first[20:]


def test_a_presigned_url_works_without_keys_and_only_unchanged(storage: Storage) -> None:
    storage.put("signed.png", b"picture", "image/png")
    url = storage.presign_get("signed.png", ttl_s=60, filename='sh"oe.png')
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, b"picture")
    assert httpx.get(url.replace("signed.png", "other.png", 1)).status_code == 403
    put = storage.presign_put("sent.bin", ttl_s=60)
    assert httpx.put(put, content=b"sent").status_code == 200
    assert storage.get(storage.bucket, "sent.bin", 10) == b"sent"


@pytest.mark.parametrize("name", ["靴の写真.png", "Тест.png", "é à.png", 'a"b.png', "🥾.png"])
def test_a_presigned_url_of_any_name_works(storage: Storage, name: str) -> None:
    storage.put("signed.png", b"picture", "image/png")
    url = storage.presign_get("signed.png", ttl_s=60, filename=name)
    [value] = httpx.URL(url).params.get_list("response-content-disposition")
    assert value.isascii(), "storages refuse what is not ISO-8859-1"
    assert unquote(value).endswith(name)
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, b"picture")


@pytest.mark.parametrize("wrong", ["aws_secret_access_key", "aws_access_key_id"])
def test_unknown_credentials_are_not_the_photo_s_fault(settings: Settings, wrong: str) -> None:
    assert settings.aws_access_key_id
    assert settings.aws_secret_access_key
    keys = {
        "aws_access_key_id": settings.aws_access_key_id.get_secret_value(),
        "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value(),
        wrong: "not-the-right-one",
    }
    storage = Storage(Settings.model_validate(settings.model_dump() | keys))
    for use in uses(storage):
        with pytest.raises(StorageKeyError, match=r"InvalidAccessKeyId|SignatureDoesNotMatch"):
            use()
    storage.close()


@pytest.mark.parametrize("minutes", [20, -20])
def test_an_error_names_a_wrong_clock(settings: Settings, minutes: int) -> None:
    """S3 rejects signatures that are more than 15 minutes off. For HEAD it gives no reason."""
    library = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src"
    assert settings.aws_access_key_id
    assert settings.aws_secret_access_key
    code = (
        "from shared.errors import StorageClockError\n"
        "from shared.settings import Settings\n"
        "from shared.storage import Storage\n"
        "from tests.integration.test_storage import uses\n"
        "for use in uses(Storage(Settings())):\n"
        "    try: use()\n"
        "    except StorageClockError as error: print(error.detail)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {
            "LD_PRELOAD": str(library / "libfaketime.so.1"),
            "FAKETIME": f"{minutes:+}m",
            "MATTING_S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
            "AWS_ACCESS_KEY_ID": settings.aws_access_key_id.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key.get_secret_value(),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    word = "ahead of" if minutes > 0 else "behind"
    said = done.stdout.splitlines()
    assert len(said) == 4, done.stdout + done.stderr
    assert all(f"clock is 20 min {word} the storage's" in line for line in said)


def uses(storage: Storage) -> list[Callable[[], object]]:
    return [
        storage.ping,
        storage.ensure_bucket,
        lambda: storage.get(storage.bucket, "key", 10),
        lambda: storage.put("key", b"x", "image/png"),
    ]


def test_a_missing_bucket_of_the_service_is_created_and_no_photo_fails(
    settings: Settings,
) -> None:
    storage = Storage(settings.model_copy(update={"s3_bucket": f"new-{uuid.uuid4().hex[:8]}"}))
    for use in (storage.ping, lambda: storage.put("key", b"x", "image/png")):
        with pytest.raises(BucketMissingError, match="There is no bucket new-"):
            use()
    storage.ensure_bucket()
    storage.ping()
    storage.close()


def test_an_unreachable_storage_is_a_temporary_error(settings: Settings) -> None:
    storage = Storage(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"}))
    with pytest.raises(StorageError) as caught:
        storage.put("key", b"x", "image/png")
    assert caught.value.retryable
    storage.close()


@pytest.mark.parametrize(
    "text", ["../x", "a/../b", "s3://b/%2e%2e/x", "a/./b", "s3:///key", "a\nb", "s3://b/a/.."]
)
def test_keys_with_relative_parts_are_refused(text: str) -> None:
    with pytest.raises(ForbiddenSourceError):
        ObjectUrl.parse(text, "matting")


def test_plain_keys_are_split_into_bucket_and_key() -> None:
    assert ObjectUrl.parse("s3://b/x/y.jpg", "m") == ObjectUrl("b", "x/y.jpg")
    assert ObjectUrl.parse("x/y..jpg", "m") == ObjectUrl("m", "x/y..jpg")
    assert str(ObjectUrl("b", "k")) == "s3://b/k"


@pytest.fixture
def cut_short() -> Iterator[str]:
    """A storage whose connections break in the middle of every object."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"ten bytes.")

        def log_message(self, *_: object) -> None:
            pass

    with LocalHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_connection_that_breaks_within_an_object_is_a_temporary_error(
    settings: Settings, cut_short: str
) -> None:
    storage = Storage(settings.model_copy(update={"s3_endpoint_url": cut_short}))
    with pytest.raises(StorageError):
        storage.get("photos", "x.jpg", 1 << 20)
    with pytest.raises(StorageError):
        storage.head("photos", "x.jpg", 500)
    with pytest.raises(StorageError):
        list(storage.stream("photos", "x.jpg"))
    storage.close()
