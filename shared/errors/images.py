"""The photo can't be matted, now or ever: its item fails, its neighbours go on."""

from shared.errors.base import MattingError


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


class ForbiddenUrlError(ImageError):
    """The URL leads to an address that this service must not visit."""

    code = "forbidden-url"
    http_status = 403
    remedy = "Use a public http(s) address, or put the photo into S3."


class EncodedSourceError(ImageError):
    """The host compressed the file once more, though it was asked not to."""

    code = "source-encoded"
    remedy = "Have the host heed `Accept-Encoding: identity`, or put the photo into S3."


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
