"""A job can't be made as it was submitted: its options, its source, its rows."""

from shared.errors.requests import RequestError


class InvalidOptionsError(RequestError):
    """The options contradict each other or name something unknown."""

    code = "invalid-options"
    http_status = 422

    def __init__(self, detail: str | None = None, *, finer: str | None = None) -> None:
        """`finer`: what is wrong in one word, for callers of an interface that has such words."""
        super().__init__(detail)
        self.finer = finer


class UnknownModelError(InvalidOptionsError):
    """The service does not offer the model."""

    code = "unknown-model"
    remedy = "Name one of those in the message, or none for the default."


class FormatUnavailableError(InvalidOptionsError):
    """The worker can't write this format."""

    code = "format-unavailable"
    remedy = "Ask for png, webp or jpeg."


class OutputTooLargeError(InvalidOptionsError):
    """The result would be larger than its format, or this service, allows."""

    code = "output-too-large"
    remedy = "Give `max_side_px` or a smaller `canvas`, or ask for png, which allows most."


class BackgroundUnreadableError(InvalidOptionsError):
    """The picture for the background can't be read."""

    code = "background-unreadable"
    remedy = "Check that the picture exists and is an image, then retry the job."


class ForbiddenSourceError(RequestError):
    """The source lies outside what this key may read."""

    code = "forbidden-source"
    http_status = 403
    remedy = "Use the service's bucket and keep out of its own prefixes, or ask for access."


class EmptySourceError(RequestError):
    """There are no photos in the source."""

    code = "source-empty"
    http_status = 422
    remedy = "Check the prefix, the manifest or the zip file; it must name or hold photos."


class BadManifestError(RequestError):
    """The manifest can't be read."""

    code = "bad-manifest"
    http_status = 422
    remedy = "Send CSV with a header that has `key` or `url`, or one JSON object a line, in UTF-8."


class BadManifestRowError(RequestError):
    """The row of the manifest names no image."""

    code = "bad-manifest-row"
    http_status = 422
    remedy = "Give each row a `key` or a `url`; correct the row and submit it again."


class BadArchiveError(RequestError):
    """The zip file can't be unpacked."""

    code = "bad-archive"
    http_status = 422
    remedy = "Pack the photos again into a plain zip file with no password."


class IdempotencyKeyReusedError(RequestError):
    """The Idempotency-Key was used for another submission."""

    code = "idempotency-key-reused"
    http_status = 422
    remedy = "Send a new key with each new submission; the same only to repeat one."
