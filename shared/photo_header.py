"""A photo's header as Pillow reads it, with nothing decoded; a file that would keep it busy for
minutes is refused.

Pillow reads the parts of a file in Python, one after the other, and a file can be made of nothing
but parts: 48 MB of JPEG padding take it minutes (seen: 250 s), and the interpreter's lock with it.
"""

import io
import struct
from collections import deque
from collections.abc import Iterator

import PIL.Image

from shared.errors import TooCostlyImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""What is accepted (JPEG includes MPO, several in one file); Pillow is asked for nothing else, so
no other decoder is ever reached."""

MOST_READS = 300_000
"""Of one file by Pillow: a PNG of 50 MB in pieces of 1 KiB takes two thirds as many."""

MOST_PARTS = 100_000
"""Chunks of a PNG, segments of a JPEG, strips or tiles of a TIFF."""

MOST_TILE_PIXELS = 2048**2
"""A tile of a TIFF is decoded whole, however little of it lies within the picture. Twice as many
as the picture has are allowed, too."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

TILE_WIDTH, TILE_LENGTH = 322, 323
STRIPS = frozenset({273, 279, 324, 325})
"""TIFF 6.0: where the strips or tiles lie, and how long each is."""

INTEGER_BYTES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}
"""By a TIFF field's type (TIFF 6.0, BigTIFF)."""

ORIENTATION_TAG = 0x0112

# It would refuse large photos as bombs; how many pixels there may be is the settings' to say.
PIL.Image.MAX_IMAGE_PIXELS = None


def open_header(data: bytes) -> PIL.Image.Image:
    """The photo, its header read. Raises TooCostlyImageError, and whatever Pillow's plug-ins raise
    for what is damaged or no photo.
    """
    _refuse_costly_tiff(data)
    if data.startswith(PNG_SIGNATURE):
        deque(png_chunks(data), maxlen=0)  # a fraction of what Pillow takes to come so far
    return PIL.Image.open(_Measured(data), formats=FORMATS)


def orientation_of(header: PIL.Image.Image) -> int:
    """EXIF orientation, 1 where nothing is said; beyond 8 it is damage."""
    # The base class's method: that of Pillow's PNG class decodes the whole picture in search of an
    # eXIf chunk behind the pixels.
    return int(PIL.Image.Image.getexif(header).get(ORIENTATION_TAG, 1))


class _Measured(io.BytesIO):
    """A file that is not to be read too often."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise too_many_parts()
        return super().read(size)


def too_many_parts() -> TooCostlyImageError:
    """What is wrong with a file that is made of far too many."""
    return TooCostlyImageError("The file is cut into far more parts than programs write")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each chunk that fits into the file. Raises TooCostlyImageError."""
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
    """Pillow lists all strips when it opens a file, however few fit into the picture."""
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
    """Tag, count and, where it is a single integer, value of each field of the first picture."""
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
    except struct.error:  # it ends too early, which is Pillow's to say
        return
