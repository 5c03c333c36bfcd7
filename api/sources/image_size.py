"""The size of a photo from its header; the API decodes no pixels."""

from shared.errors import MattingError, NotAnImageError
from shared.photo_header import open_header, orientation_of


def image_size(photo: bytes) -> tuple[int, int]:
    """Width and height in pixels of the upright photo; for most photos its first 64 KiB are enough.

    Raises NotAnImageError, CameraRawError, UnsupportedImageError, TooCostlyImageError.
    """
    try:
        with open_header(photo) as image:
            width, height = image.size
            turned = orientation_of(image) in (5, 6, 7, 8)
    except MattingError:
        raise
    except Exception as error:  # Pillow's plug-ins may raise anything for a damaged header
        raise NotAnImageError from error
    return (height, width) if turned else (width, height)
