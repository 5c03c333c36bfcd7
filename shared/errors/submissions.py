"""Errors of a submission: its options, its source, its rows."""

from shared.errors.requests import RequestError


class InvalidOptionsError(RequestError):
    """Invalid request."""

    code = "invalid-options"
    http_status = 422

    def __init__(self, detail: str | None = None, *, finer: str | None = None) -> None:
        """`finer`: a more specific code, for interfaces that have one (remove.bg's)."""
        super().__init__(detail)
        self.finer = finer


class UnknownModelError(InvalidOptionsError):
    """The service does not offer this model."""

    code = "unknown-model"
    remedy = "Choose one of the models in the message, or omit `model` for the default."


class FormatUnavailableError(InvalidOptionsError):
    """The worker cannot write this format."""

    code = "format-unavailable"
    remedy = "Choose png, webp or jpeg."


class OutputTooLargeError(InvalidOptionsError):
    """The result would be larger than its format or this service allows."""

    code = "output-too-large"
    remedy = (
        "Set `max_side_px` or a smaller `canvas`, or choose png, which allows the largest images. "
        "Of a clip, choose `mp4`, `stacked` or `frames`, which take less memory."
    )


class BackgroundUnreadableError(InvalidOptionsError):
    """The background image cannot be read."""

    code = "background-unreadable"
    remedy = "Check that the background exists and is an image, then retry the job."


class ForbiddenSourceError(RequestError):
    """The API key is not allowed to read the source."""

    code = "forbidden-source"
    http_status = 403
    remedy = (
        "Use a bucket and prefix that the key may read, or ask the operator for access. The "
        "prefixes `jobs/` and `uploads/` are the service's own."
    )


class ForbiddenDestinationError(RequestError):
    """The API key is not allowed to write to the destination."""

    code = "forbidden-destination"
    http_status = 403
    remedy = (
        "Use a bucket and folder that the key may write to, or ask the operator: "
        "MATTING_DESTINATIONS lists them, and `matting keys create --destination` limits a key."
    )


class DestinationMissingError(RequestError):
    """The bucket of the destination does not exist."""

    code = "destination-missing"
    http_status = 422
    remedy = "Create the bucket, or correct its name."


class DestinationCollisionError(RequestError):
    """Two results would have the same key."""

    code = "destination-collision"
    http_status = 422
    remedy = (
        "Nothing was processed. Give each photo a key of its own, for example with `{path}`, "
        "`{id}` or `{n}`. Keys that differ only in upper and lower case count as the same."
    )


class UnknownPlaceholderError(InvalidOptionsError):
    """Nothing fills a placeholder."""

    code = "unknown-placeholder"
    remedy = "Correct its spelling. Only manifests have columns."


class BadResultNameError(RequestError):
    """The result of this photo can't be named."""

    code = "bad-result-name"
    http_status = 422
    remedy = "Correct the value in the list, or use another placeholder."


class EmptySourceError(RequestError):
    """The source contains no photos."""

    code = "source-empty"
    http_status = 422
    remedy = "Check the prefix, the manifest or the zip file."


class BadManifestError(RequestError):
    """The manifest cannot be read."""

    code = "bad-manifest"
    http_status = 422
    remedy = (
        "Send CSV with a header that has `key` or `url`, a feed as a shop exports it, or one JSON "
        "object per line, in UTF-8."
    )


class BadManifestRowError(RequestError):
    """The row of the manifest is invalid."""

    code = "bad-manifest-row"
    http_status = 422
    remedy = "Give each row a `key` or a `url`; correct the row and submit it again."


class GroupTooLargeError(RequestError):
    """The group has more photos than the limit allows."""

    code = "group-too-large"
    http_status = 422
    remedy = (
        "Split the group into several ones; photos of one product seldom are more than a hundred."
    )


class BadArchiveError(RequestError):
    """The zip file cannot be unpacked."""

    code = "bad-archive"
    http_status = 422
    remedy = "Pack the photos again into a zip file without a password."


class ArchiveTooLargeError(RequestError):
    """The zip file does not fit on the service's disk."""

    code = "archive-too-large"
    http_status = 413
    remedy = (
        "Split the zip file, or ask the operator for more disk space (MATTING_ARCHIVE_DISK_BYTES)."
    )


class IdempotencyKeyReusedError(RequestError):
    """The Idempotency-Key was used for another submission."""

    code = "idempotency-key-reused"
    http_status = 422
    remedy = "Send a new key with each new submission; reuse a key only to repeat the same one."
