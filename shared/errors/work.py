"""A part of the system failed while an image was worked on: mostly, another try may succeed."""

from shared.errors.base import MattingError


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


class StorageClockError(StorageError):
    """The clocks differ so much that the storage takes no signature for valid."""

    code = "clock-wrong"
    remedy = "Set it (`timedatectl set-ntp true`, on both machines); nothing is lost, work waits."


class StorageKeyError(StorageError):
    """The storage does not know this service's access key, or not with this secret."""

    code = "storage-key-refused"
    remedy = (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that it knows and start the "
        "service again; nothing is lost, work waits."
    )


class BucketMissingError(StorageError):
    """There is no such bucket for this service to write to."""

    code = "bucket-missing"
    remedy = "`matting prepare` makes the one that MATTING_S3_BUCKET names; nothing is lost."


class DatabaseError(TransientError):
    """The database did not answer as it should."""

    code = "database-unavailable"


class QueueError(TransientError):
    """The queue (Redis) did not answer as it should."""

    code = "queue-unavailable"


class UrlNotFetchedError(TransientError):
    """The photo could not be fetched from its URL."""

    code = "url-not-fetched"
    remedy = "It is tried again by itself; check that the URL answers if it stays."


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
