"""The storage's refusals: which are final, whose fault they are, and that they hold up nobody."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from xml.sax.saxutils import escape

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from shared.database import Database
from shared.errors import ImageError, StorageError
from shared.jobs import ItemStatus
from shared.object_url import ObjectUrl
from shared.settings import Settings
from shared.storage import Storage
from shared.storage_faults import own, translated
from tests.http_servers import LocalHTTPServer
from tests.integration.test_batch_runner import Threshold, submit, tries
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.pipeline.pipeline import Pipeline

SSE_C = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be "
    "provided to retrieve the object."
)
KMS_DENIED = (
    "User: arn:aws:iam::1:user/m is not authorized to perform: kms:Decrypt on resource: "
    "arn:aws:kms:eu-west-1:1:key/2"
)

FINAL = [
    (403, "InvalidObjectState", "The operation is not valid for its class", "source-archived"),
    (400, "KMS.DisabledException", "arn:aws:kms:x is disabled.", "encryption-key-unavailable"),
    (400, "KMS.NotFoundException", "no such key", "encryption-key-unavailable"),
    (400, "KMS.KMSInvalidStateException", "pending deletion", "encryption-key-unavailable"),
    (403, "AccessDenied", KMS_DENIED, "encryption-key-unavailable"),
    (400, "InvalidRequest", SSE_C, "customer-encrypted"),
    (400, "InvalidRequest", "Something else", "source-refused"),
    (400, "KeyTooLongError", "Your key is too long", "key-too-long"),
    (405, "MethodNotAllowed", "not allowed against this resource", "source-refused"),
    (403, "AccessDenied", "Access Denied", "source-denied"),
    (403, "AccessDenied", "Download cap exceeded", "source-denied"),
    (403, "AccessDenied", "User: arn:aws:iam::1:user/m may not read it", "source-denied"),
    (403, "AllAccessDisabled", "All access has been disabled", "source-denied"),
    (403, "AccountProblem", "There is a problem with your account", "source-denied"),
    (403, "AccessDenied", "Bucket is a Requester Pays bucket", "requester-pays"),
    (400, "UserProjectMissing", "no user project provided", "requester-pays"),
    (301, "PermanentRedirect", "Use the specified endpoint", "bucket-elsewhere"),
    (400, "AuthorizationHeaderMalformed", "the region 'a' is wrong", "bucket-elsewhere"),
    (404, "NoSuchKey", "gone", "source-not-found"),
    (404, "NoSuchVersion", "gone", "source-not-found"),
    (418, "Teapot", "a code of a storage that nobody has heard of", "source-refused"),
    (409, "InvalidBucketState", "not valid for the bucket", "source-refused"),
]

PASSING = [
    (503, "SlowDown", "storage-unavailable"),
    (500, "InternalError", "storage-unavailable"),
    (501, "Unheard", "storage-unavailable"),
    (400, "RequestTimeout", "storage-unavailable"),
    (400, "KMS.ThrottlingException", "storage-unavailable"),
    (429, "TooManyRequests", "storage-unavailable"),
    (409, "OperationAborted", "storage-unavailable"),
    (307, "TemporaryRedirect", "storage-unavailable"),
    (400, "ExpiredToken", "storage-key-refused"),
    (403, "RequestTimeTooSkewed", "clock-wrong"),
]


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[str, Counter[int]]]:
    """A storage that refuses the object `N` with the N-th of `FINAL`; how often each was asked."""
    asked: Counter[int] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            last = self.path.partition("?")[0].rpartition("/")[2]
            number = int(last) if last.isdecimal() else 0
            asked[number] += 1
            status, code, message, _ = FINAL[number]
            body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_HEAD(self) -> None:
            self.send_response(400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with LocalHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_final_answer_is_asked_for_once_and_has_a_code_of_its_own(
    settings: Settings, refusing: tuple[str, Counter[int]]
) -> None:
    url, asked = refusing
    storage = Storage(settings.model_copy(update={"s3_endpoint_url": url}))
    found = []
    asked.clear()
    for number in range(len(FINAL)):
        with pytest.raises(ImageError) as caught:
            storage.get("photos", str(number), 100)
        found.append(caught.value.code)
        assert not caught.value.retryable
        assert f"s3://photos/{number}" in caught.value.detail
        assert "cap exceeded" in caught.value.detail or "cap" not in FINAL[number][2]
        assert "arn:" not in caught.value.detail or "KMS" in FINAL[number][1]
    assert found == [code for *_, code in FINAL]
    assert set(asked.values()) == {1}
    with pytest.raises(ImageError) as caught:
        storage.list_page(ObjectUrl("photos", "in/"), after=None)
    assert caught.value.code == "source-archived"
    with pytest.raises(ImageError):
        storage.size("photos", "0")
    storage.close()


@pytest.mark.parametrize(("status", "code", "expected"), PASSING)
def test_an_answer_that_passes_is_the_storage_s(status: int, code: str, expected: str) -> None:
    error = translated(answer(status, code), "photos", "x.jpg")
    assert isinstance(error, StorageError)
    assert error.code == expected


def answer(status: int, code: str) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": "said"},
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},  # type: ignore[typeddict-item]
        },
        "GetObject",
    )


def test_timeouts_and_broken_connections_are_the_storage_s() -> None:
    url = "http://127.0.0.1:1"
    for error in (
        ConnectTimeoutError(endpoint_url=url),
        ReadTimeoutError(endpoint_url=url),
        EndpointConnectionError(endpoint_url=url),
        ConnectionResetError(),
    ):
        assert translated(error, "photos", "x.jpg").code == "storage-unavailable"
    assert translated(NoCredentialsError(), "photos", "x.jpg").code == "storage-key-refused"


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "KMS.Disabled")])
def test_what_keeps_the_service_from_writing_is_no_photo_s_fault(status: int, code: str) -> None:
    assert own(answer(status, code), "matting", "jobs/1/results/2.png").retryable


@pytest.mark.parametrize(("bucket", "key"), [("photos", ""), ("No Bucket", "x.jpg")])
def test_a_name_that_can_be_no_object_s_is_not_asked_for_again(
    storage: Storage, bucket: str, key: str
) -> None:
    with pytest.raises(ImageError) as caught:
        storage.get(bucket, key, 100)
    assert caught.value.code == "source-refused"


def test_an_archived_photo_fails_at_its_first_try_and_holds_up_no_batch(
    database: Database,
    storage: Storage,
    settings: Settings,
    jpeg: bytes,
    refusing: tuple[str, Counter[int]],
) -> None:
    far = Storage(settings.model_copy(update={"s3_endpoint_url": refusing[0]}))
    job_id, messages = submit(database, storage, {"0": jpeg, "1": jpeg})
    pipeline = Pipeline(Threshold(), far, settings)
    breaker = CircuitBreaker(far.ping)
    runner = BatchRunner(database, pipeline, settings, "tests-1", breaker)
    results = runner.run_many(messages)
    codes = [one.code for one in results if isinstance(one, ImageError)]
    assert codes == ["source-archived", "encryption-key-unavailable"]
    assert tries(database, job_id) == [(ItemStatus.FAILED, 1, 0)] * 2
    breaker.wait_until_closed()  # returns at once; an open one would ask `far` for ever
    pipeline.close()
    far.close()
