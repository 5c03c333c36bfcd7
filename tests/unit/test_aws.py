"""S3 as on AWS: credentials, addresses, encryption, who pays, and the policy with the least rights.

boto3 builds every request; only the sending is replaced.
"""

import inspect
import io
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse, HTTPHeaders
from botocore.exceptions import ClientError, CredentialRetrievalError

from deploy.stack.stack import Stack
from shared.errors import ImageError, MattingError, SetupError, StorageKeyError, WrongSettingError
from shared.object_url import ObjectUrl
from shared.settings import Settings
from shared.storage import Storage
from shared.storage_faults import translated

AWS = Path(__file__).parents[2] / "deploy" / "aws"

LARGE_BYTES = 100_000
"""In these tests, files from here on are sent in parts."""

ANSWERS = {
    "CreateMultipartUpload": b"<R><UploadId>1</UploadId></R>",
    "ListObjectsV2": b"<R><IsTruncated>false</IsTruncated></R>",
}

RIGHTS = {
    "AbortMultipartUpload": {"s3:AbortMultipartUpload"},
    "CompleteMultipartUpload": {"s3:PutObject"},
    "CopyObject": {"s3:GetObject", "s3:PutObject"},
    "CreateMultipartUpload": {"s3:PutObject"},
    "DeleteObjects": {"s3:DeleteObject"},
    "GetObject": {"s3:GetObject"},
    "HeadBucket": {"s3:ListBucket"},
    "HeadObject": {"s3:GetObject"},
    "ListObjectsV2": {"s3:ListBucket"},
    "PutObject": {"s3:PutObject"},
    "UploadPart": {"s3:PutObject"},
}
"""The right that each call needs (Amazon S3, "Required permissions for API operations")."""


class Raw(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.read()


class Recorder:
    """A storage whose requests are kept in the place of being sent."""

    def __init__(self, settings: Settings) -> None:
        self.storage = Storage(settings)
        self.sent: list[tuple[str, AWSRequest]] = []
        self.failing: set[str] = set()
        self.used: set[str] = set()
        events = self.storage._client.meta.events
        events.register("before-send.s3", self._answer)

    def _answer(self, request: AWSRequest, event_name: str, **_: Any) -> AWSResponse:
        name = event_name.rpartition(".")[2]
        self.sent.append((name, request))
        status = 400 if name in self.failing else 200
        body = ANSWERS.get(name, b"<R></R>")
        headers = HTTPHeaders.from_dict({"Content-Length": str(len(body)), "ETag": '"1"'})
        return AWSResponse(str(request.url), status, headers, Raw(body))

    def use_everything(self) -> None:
        """Call every public method of the storage, with objects of each size."""
        storage, bucket, here = self.storage, self.storage.bucket, ObjectUrl("photos", "shop/")
        there = ObjectUrl("results", "shop/a.png")
        large = io.BytesIO(b"x" * (LARGE_BYTES + 1))
        uses: dict[str, Callable[[], object]] = {
            "get": lambda: storage.get("photos", "a", 100),
            "open": lambda: storage.open("photos", "a"),
            "stream": lambda: list(storage.stream("photos", "a")),
            "head": lambda: storage.head("photos", "a", 10),
            "part": lambda: storage.part("photos", "a", 0, 10),
            "size": lambda: storage.size("photos", "a"),
            "delete_many": lambda: storage.delete_many(["a"]),
            "put": lambda: storage.put("a", b"x", "image/png"),
            "upload": lambda: storage.upload("a", large),
            "copy": lambda: storage.copy("a", "b"),
            "list_page": lambda: storage.list_page(here, after=None),
            "list_older": lambda: list(storage.list_older("uploads/", datetime.now(UTC))),
            "list_folders": lambda: list(storage.list_folders("jobs/")),
            "list_keys": lambda: list(storage.list_keys("jobs/")),
            "list_objects": lambda: storage.list_objects(here, after=None),
            "presign_get": lambda: storage.presign_get("a", ttl_s=60, filename="a"),
            "presign_head": lambda: storage.presign_head("a", ttl_s=60, filename="a"),
            "presign_put": lambda: storage.presign_put("a", ttl_s=60),
            "written_by": lambda: storage.written_by(there),
            "put_unchanged": lambda: storage.put_unchanged(
                there, b"x", "image/png", writer="w", etag=None
            ),
            "has_bucket": lambda: storage.has_bucket("results"),
            "ping": storage.ping,
            "ensure_bucket": storage.ensure_bucket,
        }
        self.used = set(uses)
        for use in uses.values():
            use()
        storage.upload("b", io.BytesIO(b"x"))
        self.failing = {"UploadPart"}
        with pytest.raises(MattingError):
            storage.upload("c", io.BytesIO(large.getvalue()))
        assert bucket == "matting"


@pytest.fixture(autouse=True)
def _no_aws_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("shared.storage.WHOLE_BYTES", LARGE_BYTES)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def on_aws(**values: Any) -> Settings:
    return Settings.model_validate(
        {"aws_access_key_id": "AKIA", "aws_secret_access_key": "x" * 40, **values}
    )


def test_the_policy_allows_what_the_code_calls_and_nothing_else() -> None:
    recorder = Recorder(on_aws())
    recorder.use_everything()
    public = {name for name, _ in inspect.getmembers(Storage, inspect.isfunction) if name[0] != "_"}
    assert public - {"close"} == recorder.used, "add the new method to `use_everything`"
    called = {name for name, _ in recorder.sent}
    assert called == set(RIGHTS), "give a new call its rights, here and in deploy/aws"
    needed = set().union(*(RIGHTS[name] for name in called))
    policy = json.loads((AWS / "policy.json").read_text())["Statement"]
    of_service = [one for one in policy if "SERVICE-BUCKET" in one["Resource"]]
    assert {action for one in of_service for action in one["Action"]} == needed
    for statement in policy:
        lists = "s3:ListBucket" in statement["Action"]
        assert lists != statement["Resource"].endswith("/*") or "kms" in statement["Resource"]
        assert "*" not in "".join(statement["Action"])


def test_destination_buckets_get_results_only() -> None:
    recorder = Recorder(on_aws())
    recorder.use_everything()
    calls = {name for name, request in recorder.sent if "//results." in str(request.url)}
    assert calls == {"HeadBucket", "HeadObject", "PutObject"}
    needed = set().union(*(RIGHTS[name] for name in calls))
    policy = json.loads((AWS / "policy.json").read_text())["Statement"]
    given = [one["Action"] for one in policy if "DESTINATION-BUCKET" in one["Resource"]]
    assert set().union(*given) == needed


def test_source_buckets_are_only_read() -> None:
    recorder = Recorder(on_aws())
    recorder.use_everything()
    on_sources = {name for name, request in recorder.sent if "//photos." in str(request.url)}
    needed = set().union(*(RIGHTS[name] for name in on_sources))
    own = json.loads((AWS / "policy.json").read_text())["Statement"]
    theirs = json.loads((AWS / "source-bucket-policy.json").read_text())["Statement"]
    for policy in (own, theirs):
        given = [one["Action"] for one in policy if "SOURCE-BUCKET" in one["Resource"]]
        assert set().union(*given) == needed


@pytest.mark.parametrize(
    ("values", "host", "path"),
    [
        ({}, "matting.s3.us-east-1.amazonaws.com", "/a"),
        ({"s3_region": "eu-central-1"}, "matting.s3.eu-central-1.amazonaws.com", "/a"),
        ({"s3_addressing": "path"}, "s3.us-east-1.amazonaws.com", "/matting/a"),
        ({"s3_bucket": "my.shop"}, "s3.us-east-1.amazonaws.com", "/my.shop/a"),
        ({"s3_endpoint_url": "http://minio:9000"}, "minio", "/matting/a"),
        (
            {"s3_endpoint_url": "https://oss.example.com", "s3_addressing": "virtual"},
            "matting.oss.example.com",
            "/a",
        ),
    ],
    ids=["aws", "region", "path", "dots", "minio", "virtual"],
)
def test_requests_and_links_name_the_region_s_endpoint(
    values: dict[str, str], host: str, path: str
) -> None:
    recorder = Recorder(on_aws(**values))
    recorder.storage.put("a", b"x", "image/png")
    sent = httpx.URL(str(recorder.sent[0][1].url))
    link = httpx.URL(recorder.storage.presign_get("a", ttl_s=60, filename="a.png"))
    assert (sent.host, sent.path) == (host, path)
    assert (link.host, link.path) == (host, path)


def test_the_region_of_aws_variables_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert Settings().s3_region == "ap-south-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Settings().s3_region == "eu-west-1"
    monkeypatch.setenv("MATTING_S3_REGION", "eu-north-1")
    assert Settings().s3_region == "eu-north-1"


WRITES = {"PutObject", "CreateMultipartUpload", "CopyObject"}


@pytest.mark.parametrize(
    ("values", "headers"),
    [
        ({}, {}),
        ({"s3_encryption": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"s3_encryption": "aws:kms", "s3_kms_key_id": "arn:aws:kms:x:1:key/k"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:x:1:key/k",
            },
        ),
    ],
    ids=["bucket", "s3", "kms"],
)
def test_what_is_written_is_encrypted_as_asked(
    values: dict[str, str], headers: dict[str, str]
) -> None:
    recorder = Recorder(on_aws(**values))
    recorder.use_everything()
    seen = set()
    for name, request in recorder.sent:
        found = {
            key.lower(): httpx.Headers({key: text})[key]
            for key, text in request.headers.items()
            if "server-side" in key.lower()
        }
        # a customer's bucket encrypts as its owner has set it up
        own = name in WRITES and "//results." not in str(request.url)
        assert found == (headers if own else {}), name
        seen.add(name)
    assert seen >= WRITES


def test_a_kms_key_without_kms_is_refused() -> None:
    with pytest.raises(WrongSettingError, match="MATTING_S3_ENCRYPTION=aws:kms"):
        Settings(s3_kms_key_id="arn")


def test_this_service_pays_for_the_buckets_of_the_setting_only() -> None:
    recorder = Recorder(on_aws(requester_pays_buckets="photos"))
    recorder.use_everything()
    paid = {name for name, request in recorder.sent if "x-amz-request-payer" in request.headers}
    assert paid == {"GetObject", "HeadObject", "ListObjectsV2"}
    for _, request in recorder.sent:
        assert ("x-amz-request-payer" in request.headers) == ("//photos." in str(request.url))


def test_a_link_says_who_pays_in_its_address() -> None:
    storage = Storage(on_aws(requester_pays_buckets="photos"))
    link = httpx.URL(storage.presign_get("a", ttl_s=60, filename="a", bucket="photos"))
    assert link.params["x-amz-request-payer"] == "requester"
    assert link.params["X-Amz-SignedHeaders"] == "host", "a browser sends no other header"
    own = httpx.URL(storage.presign_get("a", ttl_s=60, filename="a"))
    assert "x-amz-request-payer" not in own.params


def test_a_temporary_key_is_sent_with_its_token() -> None:
    recorder = Recorder(on_aws(aws_session_token="token-of-sts"))
    recorder.storage.ping()
    assert recorder.sent[0][1].headers["X-Amz-Security-Token"] in ("token-of-sts", b"token-of-sts")
    assert recorder.storage.credentials_source == "explicit, temporary"


def test_without_a_key_boto3_searches_in_its_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Storage(Settings()).credentials_source == "none"
    (tmp_path / "credentials").write_text(
        "[shop]\naws_access_key_id = AKIA\naws_secret_access_key = x\naws_session_token = t\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "shop")
    recorder = Recorder(Settings())
    recorder.storage.ping()
    assert b"AKIA" in recorder.sent[0][1].headers["Authorization"]
    assert recorder.storage.credentials_source == "shared-credentials-file, temporary"
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(SetupError, match="no-such-profile"):
        Storage(Settings())


def test_a_refused_role_condemns_no_photo() -> None:
    refused = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    for error in (
        ClientError(refused, "AssumeRoleWithWebIdentity"),  # type: ignore[arg-type]  # its other fields
        CredentialRetrievalError(provider="container-role", error_msg="timeout"),
    ):
        assert isinstance(translated(error, "matting", "a"), StorageKeyError)
    plain = ClientError(refused, "GetObject")  # type: ignore[arg-type]  # its other fields
    assert isinstance(translated(plain, "matting", "a"), ImageError)


def test_the_embedded_stack_keeps_its_own_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIA-of-the-user", "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t", "AWS_PROFILE": "none", "MATTING_S3_ADDRESSING": "virtual",
        "MATTING_S3_ENCRYPTION": "aws:kms", "MATTING_S3_KMS_KEY_ID": "arn",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    stack = Stack(tmp_path)
    stack.env = stack._environment({"redis": 1, "s3": 2, "flower": 3, "api": 4}, "own", "secret")
    of_aws = {key: value for key, value in stack.env.items() if key.startswith("AWS_")}
    assert of_aws == {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "secret"}
    storage = Storage(stack.settings)
    assert storage.credentials_source == "explicit"
    assert storage.public_url.endswith(":2")
    assert stack.settings.s3_encryption is None


def test_the_settings_that_the_page_sets_exist() -> None:
    page = (Path(__file__).parents[2] / "docs" / "aws.md").read_text()
    named = set(re.findall(r"MATTING_[A-Z0-9_]+", page))
    assert len(named) >= 5
    assert named <= {f"MATTING_{name.upper()}" for name in Settings.model_fields}
