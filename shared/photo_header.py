"""Reads the header of a photo with Pillow, without decoding; refuses files that would take minutes.

Pillow parses a file part by part in Python, and a file can consist of parts only: 48 MB of JPEG
padding took 250 s and held the GIL.
"""

import io
import struct
from collections import deque
from collections.abc import Iterator

import PIL.Image

from shared.errors import TooCostlyImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""The accepted formats (JPEG includes MPO, several pictures in one file). Pillow uses no other
plug-in, so no other decoder can be reached.
"""

MOST_READS = 300_000
"""Most reads of one file by Pillow; a PNG of 50 MB in chunks of 1 KiB needs two thirds of it."""

MOST_PARTS = 100_000
"""Most chunks of a PNG, segments of a JPEG, strips or tiles of a TIFF."""

MOST_TILE_PIXELS = 2048**2
"""Most pixels of a TIFF tile, or twice the picture's pixels if that is more. A tile is decoded
completely, however little of it is within the picture.
"""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

TILE_WIDTH, TILE_LENGTH = 322, 323
STRIPS = frozenset({273, 279, 324, 325})
"""TIFF 6.0: offsets and lengths of strips and tiles."""

INTEGER_BYTES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of an integer by TIFF field type (TIFF 6.0, BigTIFF)."""

ORIENTATION_TAG = 0x0112

# Pillow would refuse large photos as bombs; the settings limit the pixels instead.
PIL.Image.MAX_IMAGE_PIXELS = None


def open_header(data: bytes) -> PIL.Image.Image:
    """Open a photo and read its header. Raises TooCostlyImageError, and whatever Pillow's plug-ins
    raise for a damaged file.
    """
    _refuse_costly_tiff(data)
    if data.startswith(PNG_SIGNATURE):
        deque(png_chunks(data), maxlen=0)  # a fraction of the time that Pillow needs to get here
    return PIL.Image.open(_Measured(data), formats=FORMATS)


def orientation_of(header: PIL.Image.Image) -> int:
    """The EXIF orientation; 1 if missing, or invalid (above 8)."""
    # Use the method of the base class: that of Pillow's PNG class decodes the whole picture to find
    # an eXIf chunk after the pixels.
    return int(PIL.Image.Image.getexif(header).get(ORIENTATION_TAG, 1))


class _Measured(io.BytesIO):
    """A file that limits the number of reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise too_many_parts()
        return super().read(size)


def too_many_parts() -> TooCostlyImageError:
    """The error for a file with too many parts."""
    return TooCostlyImageError("The file has far more parts than programs write")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each complete chunk. Raises TooCostlyImageError."""
    position = 8
    for _ in range(MOST_PARTS):
        if position + 12 > len(data):
            return
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end
    raise too_many_parts()


def _refuse_costly_tiff(data: bytes) -> None:
    """Refuse a TIFF with too many strips or too large tiles: Pillow lists all of them when it opens
    a file.
    """
    longest: dict[int, int] = {}
    for tag, count, value in _tiff_fields(data):
        if tag in STRIPS and count > MOST_PARTS:
            raise too_many_parts()
        longest[tag] = max(value, longest.get(tag, 0))
    width, height, tile_width, tile_length = (
        longest.get(tag, 0) for tag in (256, 257, TILE_WIDTH, TILE_LENGTH)
    )
    if tile_width * tile_length > max(MOST_TILE_PIXELS, 2 * width * height):
        raise TooCostlyImageError(
            f"The TIFF's tiles have {tile_width} x {tile_length} pixels, far more than the picture"
        )


def _tiff_fields(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Tag, count and (for a single integer) value of each field of the first picture."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        (start,) = (
            struct.unpack_from(order + "Q", data, 8)
            if big
            else struct.unpack_from(order + "L", data, 4)
        )
        (fields,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        if fields > MOST_PARTS:
            raise too_many_parts()
        entry = struct.Struct(order + ("HHQ8s" if big else "HHL4s"))
        first = start + (8 if big else 2)
        for number in range(fields):
            tag, kind, count, inline = entry.unpack_from(data, first + number * entry.size)
            value = inline[: INTEGER_BYTES.get(kind, 0)] if count == 1 else b""
            yield tag, count, int.from_bytes(value, "little" if order == "<" else "big")
    except struct.error:  # a truncated file, which Pillow reports
        return
