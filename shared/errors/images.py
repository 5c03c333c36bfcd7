"""Errors of one photo: trying again cannot help. Its item fails, the other images continue."""

from shared.errors.base import MattingError


class ImageError(MattingError):
    """The file cannot be processed."""

    code = "invalid-image"
    http_status = 422
    remedy = "Replace the file and submit it again."


class EmptyFileError(ImageError):
    """The file is empty (0 bytes)."""

    code = "empty-file"
    remedy = "Upload the photo again: the file has 0 bytes."


class NotAnImageError(ImageError):
    """The file is not a JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or PSD image."""

    code = "not-an-image"
    remedy = (
        "Send a JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or PSD file; the content decides, not the "
        "file name."
    )


class CameraRawError(ImageError):
    """The file is camera raw: unprocessed sensor data, not a finished picture."""

    code = "camera-raw"
    remedy = "Export the photo from your raw converter as JPEG, PNG or 16-bit TIFF, and send that."


class UnsupportedImageError(ImageError):
    """The service does not read this kind of image."""

    code = "unsupported-image"
    remedy = "Export it as JPEG or PNG, or as a flat TIFF with 8 or 16 bits, and send that."


class HiddenFileError(ImageError):
    """The file is hidden: its name, or that of its folder, begins with a dot."""

    code = "hidden-file"
    remedy = "If it is a photo of yours, rename it and submit it again."


class LeftOutError(ImageError):
    """The file is not a photo, so it was left out."""

    code = "left-out"
    remedy = "If it should be cut out, export it as JPEG, PNG or TIFF, and submit that."


class TruncatedImageError(ImageError):
    """The image file is cut off or damaged."""

    code = "truncated-image"
    remedy = "Upload the photo again from the original."


class TooManyPixelsError(ImageError):
    """The image has more pixels than the limit allows."""

    code = "too-many-pixels"
    remedy = "Make the photo smaller, or ask the operator to raise MATTING_MAX_IMAGE_PIXELS."


class FileTooLargeError(ImageError):
    """The file has more bytes than the limit allows."""

    code = "file-too-large"
    http_status = 413
    remedy = "Compress the photo, or ask the operator to raise MATTING_MAX_IMAGE_BYTES."


class SourceNotFoundError(ImageError):
    """The photo does not exist at the given key or URL."""

    code = "source-not-found"
    http_status = 404
    remedy = "Check the key or URL, then retry the job."


class SourceDeniedError(ImageError):
    """The service is not allowed to read the photo."""

    code = "source-denied"
    http_status = 403
    remedy = (
        "Give the service's credentials read access to the bucket or URL, then retry the job. A "
        "bucket with Requester Pays answers the same: copy its photos elsewhere."
    )


class SourceArchivedError(ImageError):
    """The object is archived, so the storage does not hand it out."""

    code = "source-archived"
    remedy = (
        "Restore the object first (AWS: `aws s3api restore-object`), wait until that is done, then "
        "retry the job."
    )


class EncryptionKeyError(ImageError):
    """The key that encrypts the object is disabled, deleted or not open to this service."""

    code = "encryption-key-unavailable"
    remedy = (
        "Enable the key in the storage's key management (KMS) and allow this service's credentials "
        "kms:Decrypt, then retry the job."
    )


class CustomerEncryptedError(ImageError):
    """The object is encrypted with a key that only its owner has (SSE-C)."""

    code = "customer-encrypted"
    remedy = "Copy the object without SSE-C (SSE-S3 or SSE-KMS work), and submit the copy."


class KeyTooLongError(ImageError):
    """The key is longer than the storage allows."""

    code = "key-too-long"
    remedy = "Give the object a key of at most 1,024 bytes in UTF-8, and submit that one."


class RequesterPaysError(ImageError):
    """Whoever reads from this bucket must pay for the request (Requester Pays)."""

    code = "requester-pays"
    remedy = (
        "Copy the photos to a bucket of your own, or ask the operator to add this one to "
        "MATTING_REQUESTER_PAYS_BUCKETS, then retry."
    )


class BucketElsewhereError(ImageError):
    """The bucket is in another region, or at another address."""

    code = "bucket-elsewhere"
    remedy = (
        "Copy the photos into the service's storage, or ask the operator to set "
        "MATTING_S3_ENDPOINT_URL and MATTING_S3_REGION for this bucket."
    )


class SourceRefusedError(ImageError):
    """The storage refuses the object, and trying again does not help."""

    code = "source-refused"
    remedy = "Correct what the storage says about the object, then retry the job."


class ForbiddenUrlError(ImageError):
    """The URL points to an address that this service must not connect to."""

    code = "forbidden-url"
    http_status = 403
    remedy = "Use a public http(s) address, or put the photo into S3."


class EncodedSourceError(ImageError):
    """The host sent the file compressed, although the request asked for it uncompressed."""

    code = "source-encoded"
    remedy = "Configure the host to obey `Accept-Encoding: identity`, or put the photo into S3."


class TooCostlyImageError(ImageError):
    """Decoding this file would take far longer than its size justifies."""

    code = "too-costly"
    remedy = "Save the photo again with another program and submit that file."


class ImageTimeoutError(ImageError):
    """Decoding or encoding the image took longer than the limit allows."""

    code = "image-timeout"
    remedy = (
        "Save the photo again with another program, or ask the operator to raise "
        "MATTING_IMAGE_TIMEOUT_S."
    )


class PoisonousImageError(ImageError):
    """The worker or the device crashed each time it processed this image alone."""

    code = "poisonous-image"
    remedy = "Save the photo again with another program. If it fails again, report the item id."


class EncodingFailedError(ImageError):
    """The result could not be encoded."""

    code = "encoding-failed"
    remedy = "Choose another format. If it fails again, report the item id."


class DestinationRefusedError(ImageError):
    """The storage refuses to write to the destination."""

    code = "destination-refused"
    remedy = "Let the service's storage account write to that bucket, then retry the job."


class EmptyGroupError(ImageError):
    """No photo of the group has a result that a turntable could show."""

    code = "group-empty"
    remedy = "Look at the errors of the group's photos, then retry the job."
