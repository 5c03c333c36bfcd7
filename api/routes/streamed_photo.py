"""The original photo as a response in pieces, from the storage or from its URL."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

from api.closed_stream import ClosedStream
from api.resources import Resources
from shared.content_disposition import content_disposition
from shared.errors import FileTooLargeError
from shared.object_url import ObjectUrl
from shared.photo_kinds import HEAD_BYTES, photo_kind
from shared.storage_stream import STREAM_BYTES

_MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "HEIF": "image/heic",
    "AVIF": "image/avif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "PSD": "image/vnd.adobe.photoshop",
}
"""Media types by shared.photo_kinds. What the storage says about a file is the caller's word."""


@dataclass(frozen=True, slots=True)
class OpenPhoto:
    """A photo to send. Call `close` in the end."""

    size_bytes: int
    first: bytes
    """The first piece."""
    rest: Iterator[bytes]
    close: Callable[[], None]


def opened_photo(resources: Resources, place: ObjectUrl) -> OpenPhoto:
    """A photo in the storage. Raises ImageError, StorageError."""
    size, pieces = resources.storage.open(place.bucket, place.key)
    if size > resources.settings.max_image_bytes:
        pieces.close()
        raise FileTooLargeError(f"The photo has {size:,} bytes now")
    return OpenPhoto(size, next(pieces, b""), pieces, pieces.close)


def fetched_photo(resources: Resources, url: str) -> OpenPhoto:
    """A photo by URL; the file is on disk first. Raises ImageError, TransientError."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
    try:
        resources.web.fetch(url, resources.settings.max_image_bytes, file)
        size = file.tell()
        file.seek(0)
        first = file.read(STREAM_BYTES)
    except BaseException:
        file.close()
        raise
    return OpenPhoto(size, first, iter(partial(file.read, STREAM_BYTES), b""), file.close)


def streamed_photo(photo: OpenPhoto, name: str) -> ClosedStream:
    """The response. `name`: the file's, for the browser."""
    kind = _MEDIA_TYPES.get(photo_kind(photo.first[:HEAD_BYTES]) or "")
    return ClosedStream(
        chain([photo.first], photo.rest),
        media_type=kind or "application/octet-stream",
        headers={
            "Content-Length": str(photo.size_bytes),
            "Cache-Control": "private, no-cache",
            "Content-Disposition": content_disposition("inline" if kind else "attachment", name),
        },
        close=photo.close,
    )
