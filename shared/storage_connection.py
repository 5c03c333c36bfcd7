"""Connections to S3: a session with its credentials, clients, and what every write asks for.

They work with AWS S3, MinIO and the embedded server: Signature V4, and checksums only when required
(some servers fail on ranged reads with checksums).
"""

from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from pydantic import SecretStr

from shared.errors import SetupError
from shared.settings import Settings

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 15
"""Longest wait for the next byte of an answer. boto3 makes three attempts."""

PAYER_HEADER = "x-amz-request-payer"


def new_session(settings: Settings) -> boto3.session.Session:
    """A session with the settings' access key; without one, boto3 searches for credentials in its
    usual places and renews temporary ones. Raises SetupError.
    """
    # Whoever gives a key means no profile, and AWS_PROFILE may name one that is not there.
    no_profile = {"profile": (None, None, None, None)} if settings.aws_access_key_id else None
    try:
        return boto3.session.Session(
            botocore_session=botocore.session.get_session(no_profile),
            aws_access_key_id=_value(settings.aws_access_key_id),
            aws_secret_access_key=_value(settings.aws_secret_access_key),
            aws_session_token=_value(settings.aws_session_token),
            region_name=settings.s3_region,
        )
    except BotoCoreError as error:  # for example: AWS_PROFILE names a profile that does not exist
        raise SetupError(f"AWS's configuration is wrong: {error}") from error


def encryption_of(settings: Settings) -> dict[str, Any]:
    """The parameters of every request that writes."""
    if settings.s3_encryption is None:
        return {}
    wanted: dict[str, Any] = {"ServerSideEncryption": settings.s3_encryption}
    if settings.s3_kms_key_id:
        wanted["SSEKMSKeyId"] = settings.s3_kms_key_id
    return wanted


def new_client(
    session: boto3.session.Session, settings: Settings, endpoint_url: str | None, connections: int
) -> Any:
    """A client for `connections` threads at the same time. It does not connect yet."""
    # boto3's own "auto" presigns URLs of the global endpoint, which redirects. Its "virtual" puts a
    # bucket with dots into the path, because no certificate fits such a host name.
    style = settings.s3_addressing
    if style == "auto":
        style = "path" if endpoint_url else "virtual"
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        config=Config(
            signature_version="s3v4",
            # Without "regional", us-east-1 is reached through the old global endpoint.
            s3={"addressing_style": style, "us_east_1_regional_endpoint": "regional"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "max_attempts": 3},
            max_pool_connections=connections,
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            tcp_keepalive=True,
        ),
    )


def new_presigner(session: boto3.session.Session, settings: Settings) -> Any:
    """A client that only signs URLs, for the address by which callers reach the storage."""
    public = settings.s3_public_endpoint_url or settings.s3_endpoint_url
    client = new_client(session, settings, public, 1)
    client.meta.events.register("before-sign.s3", _payer_into_query)
    return client


def _payer_into_query(request: Any, **_: Any) -> None:
    """Who opens a presigned URL sends no header, so the URL says who pays."""
    if payer := request.headers.get(PAYER_HEADER):
        del request.headers[PAYER_HEADER]
        request.params = {**(request.params or {}), PAYER_HEADER: payer}


def _value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
