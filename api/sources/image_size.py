"""The size of a photo, from its header alone: no pixel is decoded in an API process."""

from shared.errors import NotAnImageError, TooCostlyImageError
from shared.photo_header import open_header, orientation_of


def image_size(photo: bytes) -> tuple[int, int]:
    """Width and height in pixels of the upright photo; its first 64 KiB do for most.

    Raises NotAnImageError, TooCostlyImageError.
    """
    try:
        with open_header(photo) as image:
            width, height = image.size
            turned = orientation_of(image) in (5, 6, 7, 8)
    except TooCostlyImageError:
        raise
    except Exception as error:  # Pillow's plug-ins raise whatever a damaged header leads to
        raise NotAnImageError from error
    return (height, width) if turned else (width, height)
