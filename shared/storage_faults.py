"""Translates the errors of boto3: it decides which are final, and whose fault they are.

A 4xx is the object's fault unless it is known to be about the service or to pass: the image fails
at once, with what to do. A 5xx, a timeout and a broken connection are the storage's: they are tried
again. The codes are those of Amazon S3's list of error responses, and MinIO's and Google's where
they differ.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSOError,
)
from urllib3.exceptions import HTTPError

from shared.errors import (
    BucketElsewhereError,
    BucketMissingError,
    CustomerEncryptedError,
    EncryptionKeyError,
    ImageError,
    KeyTooLongError,
    RequesterPaysError,
    SourceArchivedError,
    SourceDeniedError,
    SourceNotFoundError,
    SourceRefusedError,
    StorageClockError,
    StorageError,
    StorageKeyError,
)

FAULTS = (BotoCoreError, ClientError, OSError, HTTPError)
"""The exceptions of boto3, and of urllib3 when a connection breaks while a body is read."""

_NO_KEY = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError)
"""boto3 found no access key, or the role's service gave it none."""

MAX_SKEW_S = 870
"""S3 rejects signatures that are 900 s off. The limit is lower because of rounding and transfer
time.
"""

_UNKNOWN_KEY = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidToken",
        "InvalidClientTokenId",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
        "NotSignedUp",
    }
)

_PASSING = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "OperationAborted",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "TemporaryRedirect",
        "TooManyRequestsException",
    }
)
"""Codes that come with a 4xx, or a redirect, and pass."""

_FINAL: dict[str, type[ImageError]] = {
    "InvalidObjectState": SourceArchivedError,
    "KeyTooLongError": KeyTooLongError,
    "KeyTooLong": KeyTooLongError,
    "NoSuchBucket": SourceNotFoundError,
    "NoSuchKey": SourceNotFoundError,
    "NoSuchVersion": SourceNotFoundError,
    "NotFound": SourceNotFoundError,
    "PermanentRedirect": BucketElsewhereError,
    "Redirect": BucketElsewhereError,
    "AuthorizationHeaderMalformed": BucketElsewhereError,
    "IllegalLocationConstraintException": BucketElsewhereError,
    "IncorrectEndpoint": BucketElsewhereError,
    "UserProjectMissing": RequesterPaysError,
}

_BY_STATUS: dict[int, type[ImageError]] = {
    301: BucketElsewhereError,
    401: SourceDeniedError,
    403: SourceDeniedError,
    404: SourceNotFoundError,
    410: SourceNotFoundError,
}

_ABOUT_PAYING = ("requester pays", "requesterpays", "request-payer")
_ABOUT_KMS = ("kms:", "kms key", "customer master key")
_ABOUT_SSE_C = ("server side encryption", "sse-c", "customer encryption key", "customer-provided")
"""Words of messages whose codes (AccessDenied, InvalidRequest) say too little."""

_SAYS_NOTHING = ("access denied", "access denied.", "forbidden", "unauthorized")

_SENTENCES: dict[type[ImageError], str] = {
    SourceArchivedError: "{place} is archived (a storage class such as Glacier)",
    KeyTooLongError: "The storage takes no key as long as {place}",
    SourceNotFoundError: "There is no object {place}",
    BucketElsewhereError: "The bucket of {place} is in another region or at another address",
    RequesterPaysError: "{place} is in a bucket whose requester pays, and this service does not",
    EncryptionKeyError: "The storage may not or cannot use the key that encrypts {place}",
    CustomerEncryptedError: "{place} is encrypted with a key of its owner's own (SSE-C)",
    SourceDeniedError: "The storage refuses access to {place}",
}


def translated(error: Exception, bucket: str, key: str) -> StorageError | ImageError:
    """The error of a caller's object. ImageErrors are final, StorageErrors are retryable."""
    place = f"s3://{bucket}/{key}"
    if isinstance(error, ClientError):
        # The role was refused, not the object: no photo may fail because of it.
        if error.operation_name.startswith(("AssumeRole", "GetRoleCredentials")):
            return StorageKeyError(f"There is no access key for {place}: {error}")
        return _answered(error, place)
    if isinstance(error, _NO_KEY):
        return StorageKeyError(f"There is no access key for {place}: {error}")
    if isinstance(error, ParamValidationError):  # boto3 sends no such name
        return SourceRefusedError(f"{place} is not a valid object name: {error}")
    return StorageError(f"The storage failed for {place}: {type(error).__name__}: {error}")


def own(error: Exception, bucket: str, key: str) -> StorageError:
    """The error of an object of the service itself: always retryable, because no photo is the
    cause, and the operator can mend it.
    """
    known = translated(error, bucket, key)
    if isinstance(known, SourceNotFoundError):
        return BucketMissingError(f"There is no bucket {bucket}")
    return known if isinstance(known, StorageError) else StorageError(known.detail)


def code_of(error: ClientError) -> str:
    """S3's code; the status in its place where an answer has no body, as for HEAD."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _answered(error: ClientError, place: str) -> StorageError | ImageError:
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if abs(ahead_s := _ahead_s(error, status)) > MAX_SKEW_S:
        return StorageClockError(
            f"This machine's clock is {abs(ahead_s) / 60:.0f} min "
            f"{'ahead of' if ahead_s > 0 else 'behind'} the storage's, which refuses {place}"
        )
    if code == "RequestTimeTooSkewed":
        return StorageClockError(f"The storage's clock and this machine's differ too much: {place}")
    if code in _UNKNOWN_KEY:
        return StorageKeyError(f"The storage refuses the access key for {place} ({code})")
    if status >= 500 or status in (408, 425, 429) or code in _PASSING or "Throttl" in code:
        return StorageError(f"The storage failed for {place}: {error}")
    message = str(error.response.get("Error", {}).get("Message", ""))
    kind = _final_kind(code, status, message)
    if kind is None and not 400 <= status < 500:
        return StorageError(f"The storage failed for {place}: {error}")
    if kind is None:
        return SourceRefusedError(f"The storage refuses {place}: {message} ({code})")
    said = "" if code in ("", "404", "NoSuchKey") else f" ({code})"
    tells = message and message.lower() not in _SAYS_NOTHING and "arn:" not in message
    if kind is SourceDeniedError and tells:  # a cap or a virus; an ARN would name the operator
        said = f": {message}{said}"
    return kind(_SENTENCES[kind].format(place=place) + said)


def _final_kind(code: str, status: int, said: str) -> type[ImageError] | None:
    """The error of an answer that no second try changes; None: it is unknown."""
    words = said.lower()
    if any(one in words for one in _ABOUT_PAYING):
        return RequesterPaysError
    if code.upper().startswith("KMS") or any(one in words for one in _ABOUT_KMS):
        return EncryptionKeyError
    if any(one in words for one in _ABOUT_SSE_C):
        return CustomerEncryptedError
    return _FINAL.get(code) or _BY_STATUS.get(status)


def _ahead_s(error: ClientError, status: int) -> float:
    """Seconds by which this machine's clock is ahead of the storage's, from the Date of its
    response; 0 if there is none.
    """
    if status not in (400, 403):
        return 0.0
    about = error.response.get("ResponseMetadata", {})
    try:
        theirs = parsedate_to_datetime(about.get("HTTPHeaders", {}).get("date", ""))
    except ValueError:
        return 0.0
    return (datetime.now(UTC) - theirs.astimezone(UTC)).total_seconds()
