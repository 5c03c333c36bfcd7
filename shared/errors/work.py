"""Errors of a part of the system while it processed an image: most are tried again."""

from shared.errors.base import MattingError


class TransientError(MattingError):
    """A part of the system is temporarily unavailable."""

    code = "temporarily-unavailable"
    http_status = 503
    retryable = True
    remedy = "The service tries again automatically; nothing is lost."


class WorkerMemoryError(TransientError):
    """The worker did not have enough memory for the image."""

    code = "worker-out-of-memory"
    remedy = (
        "The service tries again automatically. If it happens often, lower MATTING_CODEC_THREADS."
    )


class StorageError(TransientError):
    """The object storage is unavailable."""

    code = "storage-unavailable"


class StorageClockError(StorageError):
    """The clock of this machine or of the storage is wrong, so the storage rejects requests."""

    code = "clock-wrong"
    remedy = (
        "Set the clock (`timedatectl set-ntp true` on both machines). Work waits; nothing is lost."
    )


class StorageKeyError(StorageError):
    """The storage rejects this service's access key or secret key."""

    code = "storage-key-refused"
    remedy = (
        "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of this machine or "
        "service account, and restart the service. Work waits; nothing is lost."
    )


class RemovalRefusedError(StorageError):
    """The storage does not remove an object."""

    code = "removal-refused"
    remedy = (
        "Allow s3:DeleteObject below `jobs/` and `uploads/`, and set no object lock there. The "
        "service tries again automatically."
    )


class BucketMissingError(StorageError):
    """The service's bucket does not exist."""

    code = "bucket-missing"
    remedy = "Run `matting prepare`: it creates the bucket named by MATTING_S3_BUCKET."


class DiskFullError(TransientError):
    """The service's disk has no free space at the moment."""

    code = "disk-full"
    remedy = (
        "The service tries again automatically. If it keeps failing, give /tmp more space: that of "
        "the API for zip files (MATTING_ARCHIVE_DISK_BYTES), that of the workers for clips "
        "(MATTING_CLIP_DISK_BYTES)."
    )


class DatabaseError(TransientError):
    """The database is unavailable."""

    code = "database-unavailable"
    remedy = (
        "The service tries again automatically. If a command says this: check that the database "
        "runs and that MATTING_DATABASE_URL is right, then run the command again."
    )


class QueueError(TransientError):
    """The queue (Redis) is unavailable."""

    code = "queue-unavailable"


class UrlNotFetchedError(TransientError):
    """The photo could not be downloaded from its URL."""

    code = "url-not-fetched"
    remedy = "The service tries again automatically. If it keeps failing, check that the URL works."


class PredictorError(TransientError):
    """The device failed while it ran the network."""

    code = "prediction-failed"
    remedy = (
        "The service tries again automatically; nothing is lost. A worker whose device fails for "
        "every image gives its images back and starts anew; its log says `device-lost`."
    )


class OutOfMemoryError(PredictorError):
    """The device does not have enough memory for this batch."""

    code = "device-out-of-memory"
    remedy = (
        "The worker halves the batch and tries again. If it happens often, lower "
        "MATTING_BATCH_SIZE."
    )


class PredictionServerError(TransientError):
    """The server that runs the network is unavailable, too slow, or holds another model."""

    code = "prediction-server-unavailable"
    remedy = (
        "The service tries again automatically; work waits until the server answers. Check Triton "
        "(docs/triton.md)."
    )


class ModelNotServedError(TransientError):
    """The worker that received the image does not serve its model."""

    code = "model-not-served"
    remedy = (
        "Check MATTING_WORKER_MODELS: each model that jobs may name needs a worker that serves it."
    )


class LeaseLostError(TransientError):
    """The worker did not renew its lease in time, so another worker took the image."""

    code = "lease-lost"


class InvalidMessageError(MattingError):
    """A message on the queue does not have this version's format."""

    code = "invalid-message"
    remedy = "No image is affected. Check whether another program writes to this Redis."


class AttemptsExhaustedError(MattingError):
    """The image failed each time it was tried."""

    code = "attempts-exhausted"
    remedy = "Search the workers' logs for the item id, then retry the job."
