"""Every error a person can meet: a stable code, what happened, and what to do about it.

The class docstring is the sentence that a person reads when no detail is given. `code` never
changes once released; `http_status` is what the API answers; `retryable` tells the worker whether
another try can help. Errors of the image itself are never retried.

MattingError
├── ImageError            the photo can't be matted, now or ever (item fails, neighbours go on)
├── TransientError        network, storage, database or device: another try may succeed
├── SetupError            the process can't start; it ends with a non-zero status
└── RequestError          the caller asked for something that can't be done
"""

from typing import ClassVar


class MattingError(Exception):
    """Something went wrong inside the service; the details are in its log."""

    code: ClassVar[str] = "internal-error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str] = "Try again; if it stays, send the operator the request or item id."

    def __init__(self, detail: str | None = None) -> None:
        """`detail` replaces the class docstring's first paragraph as the message."""
        self.detail = detail or (type(self).__doc__ or "").strip().split("\n\n")[0]
        super().__init__(self.detail)

    @property
    def message(self) -> str:
        """What happened and what to do, in one line, fit for a report."""
        return f"{self.detail.rstrip('.')}. {self.remedy}"


# --- the photo ------------------------------------------------------------------------------------


class ImageError(MattingError):
    """The file can't be matted."""

    code = "invalid-image"
    http_status = 422
    remedy = "Replace the file and submit it again."


class EmptyFileError(ImageError):
    """The file is empty (0 bytes)."""

    code = "empty-file"
    remedy = "Upload the photo again."


class NotAnImageError(ImageError):
    """The file is not a JPEG, PNG, WebP, BMP or TIFF image."""

    code = "not-an-image"
    remedy = "Send a JPEG, PNG, WebP, BMP or TIFF file; the content counts, not the extension."


class TruncatedImageError(ImageError):
    """The image ends too early or its data is damaged."""

    code = "truncated-image"
    remedy = "Upload the photo again from the original."


class TooManyPixelsError(ImageError):
    """The image has more pixels than the limit allows."""

    code = "too-many-pixels"
    remedy = "Shrink the photo, or ask the operator to raise MATTING_MAX_IMAGE_PIXELS."


class FileTooLargeError(ImageError):
    """The file has more bytes than the limit allows."""

    code = "file-too-large"
    http_status = 413
    remedy = "Compress the photo, or ask the operator to raise MATTING_MAX_IMAGE_BYTES."


class SourceNotFoundError(ImageError):
    """There is no object under the given key."""

    code = "source-not-found"
    http_status = 404
    remedy = "Check the key and that the object still exists, then retry the job."


class SourceDeniedError(ImageError):
    """The storage does not allow this service to read the object."""

    code = "source-denied"
    http_status = 403
    remedy = "Grant the service's credentials read access to the bucket, then retry the job."


class TooCostlyImageError(ImageError):
    """The image is built so that decoding it takes far longer than its size warrants."""

    code = "too-costly"
    remedy = "Re-save the photo with another program and submit it again."


class ImageTimeoutError(ImageError):
    """Decoding or encoding the image took longer than the limit allows."""

    code = "image-timeout"
    remedy = "Re-save the photo, or ask the operator to raise MATTING_IMAGE_TIMEOUT_S."


class PoisonousImageError(ImageError):
    """The image made the device or the worker fail each time it was tried, alone."""

    code = "poisonous-image"
    remedy = "Re-save the photo with another program; report it with the item id if it stays."


# --- worth another try ----------------------------------------------------------------------------


class TransientError(MattingError):
    """A part of the system did not answer as it should."""

    code = "temporarily-unavailable"
    http_status = 503
    retryable = True
    remedy = "It is tried again by itself; nothing is lost."


class WorkerMemoryError(TransientError):
    """The worker had too little memory for the image at that moment."""

    code = "worker-out-of-memory"
    remedy = "It is tried again by itself; lower MATTING_CODEC_THREADS if it comes often."


class StorageError(TransientError):
    """The object storage did not answer as it should."""

    code = "storage-unavailable"


class DatabaseError(TransientError):
    """The database did not answer as it should."""

    code = "database-unavailable"


class QueueError(TransientError):
    """The queue (Redis) did not answer as it should."""

    code = "queue-unavailable"


class PredictorError(TransientError):
    """The device failed while computing the batch."""

    code = "prediction-failed"


class OutOfMemoryError(PredictorError):
    """The device has too little memory for this batch."""

    code = "device-out-of-memory"
    remedy = "The batch is halved and tried again; lower MATTING_BATCH_SIZE if it comes often."


class ModelNotServedError(TransientError):
    """The worker that took the image does not serve its model."""

    code = "model-not-served"
    remedy = "Check MATTING_WORKER_MODELS: some worker must serve every model that jobs may name."


class LeaseLostError(TransientError):
    """The worker was gone for longer than its lease; another one took the image."""

    code = "lease-lost"


class InvalidMessageError(MattingError):
    """A message on the queue is not one of this version's."""

    code = "invalid-message"
    remedy = "Nothing to do: it names no image. Look for other writers on this Redis."


class AttemptsExhaustedError(MattingError):
    """The image was given up after the last of its tries."""

    code = "attempts-exhausted"
    remedy = "Look at the worker's log for the item id, then retry the job."


# --- starting -------------------------------------------------------------------------------------


class SetupError(MattingError):
    """The process can't start as it is configured."""

    code = "setup-failed"
    http_status = 503
    remedy = "Run `matting doctor`: it names the part and the fix."


class ModelLoadError(SetupError):
    """The model can't be loaded."""

    code = "model-load-failed"
    remedy = (
        "MATTING_MODEL must be `builtin` or a folder holding deploy.yaml, model.pdiparams and "
        "model.pdmodel or model.json."
    )


class UnsupportedTransformError(ModelLoadError):
    """deploy.yaml asks for a preprocessing step that this worker does not know."""

    code = "unsupported-transform"
    remedy = "Export the model with PaddleSeg's matting transforms only."


class EngineUnavailableError(SetupError):
    """The installed Paddle can't do what the settings ask for."""

    code = "engine-unavailable"
    remedy = (
        "Install the Paddle build for this device (see README, Devices) or use MATTING_DEVICE=cpu."
    )


class WarmupError(SetupError):
    """The model did not pass its check at start: no configuration gives sane results."""

    code = "warm-up-failed"


class ModelDownloadError(SetupError):
    """The model could not be fetched."""

    code = "model-download-failed"
    remedy = (
        "Run the command again: it goes on where it broke off. Behind a wall, set "
        "MATTING_MODELS_URL to a mirror or give the file with --from."
    )


class ModelChangedError(SetupError):
    """The model is not the one that was fetched before."""

    code = "model-changed"
    remedy = (
        "Ask its publisher. If the change is meant, take the model's entry out of "
        "models.lock.json and run the command again."
    )


class BadModelArchiveError(SetupError):
    """The archive does not hold a model."""

    code = "bad-model-archive"
    remedy = "Give a zip file of a PaddleSeg export: deploy.yaml, graph and weights in one folder."


class PairsNotFoundError(SetupError):
    """There are no photos with alphas to measure by."""

    code = "pairs-not-found"
    remedy = "Name them images/NAME.jpg and alphas/NAME.png, or NAME.jpg and NAME-alpha.png."


class StackError(SetupError):
    """A part of the embedded stack did not start."""

    code = "stack-start-failed"
    remedy = "Look at the log file named above."


class NoStackError(StackError):
    """No stack runs here."""

    code = "no-stack"
    remedy = "Start one with `matting up`, or set MATTING_API_URL and MATTING_API_KEY."


# --- the caller -----------------------------------------------------------------------------------


class RequestError(MattingError):
    """The request can't be carried out as it stands."""

    code = "bad-request"
    http_status = 400
    remedy = "See /docs for what the endpoint takes."


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


class BackgroundUnreadableError(InvalidOptionsError):
    """The picture for the background can't be read."""

    code = "background-unreadable"
    remedy = "Check that the picture exists and is an image, then retry the job."


class UnauthorizedError(RequestError):
    """The request carries no valid API key."""

    code = "unauthorized"
    http_status = 401
    remedy = "Send `Authorization: Bearer KEY`; make a key with `matting keys create NAME`."


class ScopeError(RequestError):
    """The API key does not allow this."""

    code = "scope-missing"
    http_status = 403
    remedy = "Use a key with that scope: `matting keys create NAME --scope …`."


class RateLimitError(RequestError):
    """The API key sends more requests than it may."""

    code = "rate-limited"
    http_status = 429
    remedy = "Wait as long as `Retry-After` says, and send more images with each request."


class QuotaExceededError(RequestError):
    """The API key has no images left this month."""

    code = "quota-exceeded"
    http_status = 402
    remedy = "Wait for the next month, or ask the operator for a higher quota."


class SlowRequestError(RequestError):
    """The request's body came too slowly."""

    code = "request-timeout"
    http_status = 408
    remedy = "Send it again over a faster connection, or in smaller parts."


class NoForegroundError(RequestError):
    """No foreground was found in the photo."""

    code = "no-foreground"
    http_status = 422
    remedy = "Use a photo whose subject stands out from its background."


class AnswerTimeoutError(RequestError):
    """The photo was not done within the time that the caller can wait."""

    code = "answer-timeout"
    http_status = 504
    remedy = "Nothing is lost: ask for the job, or submit in bulk when there is much to do."

    def __init__(self, detail: str | None = None, *, job_id: str | None = None) -> None:
        """`job_id`: what goes on."""
        super().__init__(detail)
        self.job_id = job_id


class NotFoundError(RequestError):
    """There is nothing under this id, or it belongs to another key."""

    code = "not-found"
    http_status = 404
    remedy = "Check the id and the API key."


class JobNotFoundError(NotFoundError):
    """There is no job with this id, or it belongs to another key."""

    code = "job-not-found"


class ItemNotFoundError(NotFoundError):
    """There is no item with this id, or it belongs to another key."""

    code = "item-not-found"


class WebhookNotFoundError(NotFoundError):
    """There is no webhook with this id, or it belongs to another key."""

    code = "webhook-not-found"


class DeliveryNotFoundError(NotFoundError):
    """There is no delivery with this id any more, or it belongs to another key."""

    code = "delivery-not-found"


class ConflictError(RequestError):
    """The request does not fit the present state."""

    code = "conflict"
    http_status = 409
    remedy = "Read the state again and decide anew."


class TooManyFailuresError(ConflictError):
    """Too many images of the job failed, so it was paused before the rest is spent on it."""

    code = "too-many-failures"
    remedy = "Look at the failed items; then resume the job (with the rest), or cancel it."


class TooManyWebhooksError(ConflictError):
    """The API key has as many webhooks as it may have."""

    code = "too-many-webhooks"
    remedy = "Delete one, or name the webhook with each job; one webhook may serve many jobs."


class WebhookDisabledError(ConflictError):
    """The webhook is switched off."""

    code = "webhook-disabled"
    remedy = "Switch it on again (`enabled`: true), then send again what it missed."


class ForbiddenWebhookError(RequestError):
    """The webhook's URL leads to an address that this service must not visit."""

    code = "forbidden-webhook"
    http_status = 403
    remedy = "Use a public http(s) address, or ask for MATTING_ALLOW_PRIVATE_ADDRESSES."


class TooManyListenersError(RequestError):
    """Too many event streams are open."""

    code = "too-many-listeners"
    http_status = 503
    remedy = "Try again later, or ask for the job now and then."


class IdempotencyKeyReusedError(RequestError):
    """The Idempotency-Key was used for another submission."""

    code = "idempotency-key-reused"
    http_status = 422
    remedy = "Send a new key with each new submission; the same only to repeat one."


class BadManifestRowError(RequestError):
    """The row of the manifest names no image."""

    code = "bad-manifest-row"
    http_status = 422
    remedy = "Give each row a `key` or a `url`; correct the row and submit it again."


class BadManifestError(RequestError):
    """The manifest can't be read."""

    code = "bad-manifest"
    http_status = 422
    remedy = "Send CSV with a header that has `key` or `url`, or one JSON object a line, in UTF-8."


class BadArchiveError(RequestError):
    """The zip file can't be unpacked."""

    code = "bad-archive"
    http_status = 422
    remedy = "Pack the photos again into a plain zip file with no password."


class ForbiddenUrlError(ImageError):
    """The URL leads to an address that this service must not visit."""

    code = "forbidden-url"
    http_status = 403
    remedy = "Use a public http(s) address, or put the photo into S3."


class UrlNotFetchedError(TransientError):
    """The photo could not be fetched from its URL."""

    code = "url-not-fetched"
    remedy = "It is tried again by itself; check that the URL answers if it stays."


class ResultNotReadyError(ConflictError):
    """The item has no result (yet)."""

    code = "result-not-ready"
    remedy = "Wait until its status is `succeeded`; a failed item says why in its `error`."


class RequestTooLargeError(RequestError):
    """The request is larger than the limit allows."""

    code = "request-too-large"
    http_status = 413
    remedy = "Split it, or put the files into S3 and submit their keys or prefix."


class ForbiddenSourceError(RequestError):
    """The source lies outside what this key may read."""

    code = "forbidden-source"
    http_status = 403
    remedy = "Use the service's bucket and keep out of its own prefixes, or ask for access."


class InvalidCursorError(RequestError):
    """The cursor was not made by this endpoint."""

    code = "invalid-cursor"
    remedy = "Pass `next_cursor` of the page before unchanged, or leave it out to begin."
