"""Decoding of JPEG files with libjpeg-turbo.

It gives the same pixels as OpenCV in half the time (tests/benchmarks/README.md), and releases the
GIL. OpenCV stays the judge of damaged files: whatever libjpeg-turbo only warns of goes there.
"""

import math

import simplejpeg  # type: ignore[import-untyped]

from worker.imaging.arrays import Image


def decode_jpeg(data: bytes, size: tuple[int, int], scale: int) -> Image | None:
    """Decode a JPEG to [h, w, 3] uint8 RGB, at 1/`scale` (1, 2, 4, 8) of its size.

    `size` is the width and height in the header. Returns None when the file is not flawless, or
    when its header is read differently.
    """
    width, height = size
    smaller = math.ceil(height / scale), math.ceil(width / scale)
    try:
        found_height, found_width, _, _ = simplejpeg.decode_jpeg_header(data)
        if (found_width, found_height) != size:
            return None
        image: Image = simplejpeg.decode_jpeg(
            data, "RGB", min_height=smaller[0], min_width=smaller[1], min_factor=scale
        )
    except ValueError:
        return None
    return image if image.shape[:2] == smaller else None
