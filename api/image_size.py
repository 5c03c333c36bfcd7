"""The size of a photo, from its header alone: no pixel is decoded in an API process."""

import io

import PIL.Image

from shared.errors import NotAnImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
ORIENTATION_TAG = 0x0112

# It would refuse large photos as bombs; how many pixels there may be is the worker's to say.
PIL.Image.MAX_IMAGE_PIXELS = None


def image_size(photo: bytes) -> tuple[int, int]:
    """Width and height in pixels of the upright photo; its first 64 KiB do for most.

    Raises NotAnImageError.
    """
    try:
        with PIL.Image.open(io.BytesIO(photo), formats=FORMATS) as image:
            width, height = image.size
            # The base class's method: that of Pillow's PNG class decodes the whole picture.
            turned = PIL.Image.Image.getexif(image).get(ORIENTATION_TAG, 1) in (5, 6, 7, 8)
    except Exception as error:  # Pillow's plug-ins raise whatever a damaged header leads to
        raise NotAnImageError from error
    return (height, width) if turned else (width, height)
