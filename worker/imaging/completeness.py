"""Whether a file is whole, and no JPEG that takes hours.

Decoders fill what is missing with grey, and report nothing.
"""

import io
import re

import numpy as np
import PIL.Image

from shared.errors import TooCostlyImageError, TruncatedImageError
from shared.png_chunks import MOST_PARTS, png_is_complete, too_many_parts

JPEG_END = b"\xff\xd9"

_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker inside JPEG data, except byte stuffing, restarts and padding (ITU-T T.81, B.1.1)."""

MAX_SCANS = 200
"""Most scans of one JPEG. Encoders write about ten. A decoder visits every pixel once per scan: 50
megapixels with thousands of empty scans keep it busy for an hour."""

BMP_PACKED = (1, 2, 4, 5)
"""BMP compressions whose pixels have no fixed length: runs, JPEG, PNG."""


def refuse_incomplete(data: bytes, kind: str, size: tuple[int, int]) -> bytes:
    """Raise TruncatedImageError if the end of the pixels is missing, and TooCostlyImageError for a
    JPEG with more than MAX_SCANS scans.

    `size`: width and height. Returns the file, with an end marker if a JPEG lost only that.
    """
    complete = True  # the decoders of all others notice a missing end
    if kind in ("JPEG", "MPO"):
        _refuse_many_scans(data)
        if data.rfind(JPEG_END) <= _jpeg_scan_start(data):
            complete = _only_the_end_is_missing(data)
            data += JPEG_END
    elif kind == "PNG":
        complete = png_is_complete(data)
    elif kind == "WEBP":
        # Some programs forget to count the padding of the last chunk.
        complete = int.from_bytes(data[4:8], "little") + 7 <= len(data)
    elif kind == "BMP":
        complete = _bmp_is_complete(data, size)
    if not complete:
        raise TruncatedImageError("The image ends too early: the file was cut short")
    return data


def _only_the_end_is_missing(data: bytes) -> bool:
    """Whether a JPEG without an end marker has all its pixels: then other bytes that follow make no
    difference to them. Of a progressive one, or one with restarts, nobody can tell.
    """
    if b"\xff\xdd" in data[: _jpeg_scan_start(data)]:
        return False
    rubbish = b"\0" + bytes(1 + (n * 89) % 253 for n in range(4_096))
    found = []
    try:
        for tail in (b"", rubbish):
            with PIL.Image.open(io.BytesIO(data + tail + JPEG_END), formats=("JPEG",)) as image:
                if "progressive" in image.info:
                    return False
                found.append(np.asarray(image))
    except (OSError, SyntaxError):
        return False
    return bool((found[0] == found[1]).all())


def _bmp_is_complete(data: bytes, size: tuple[int, int]) -> bool:
    """Whether the rows lie within the file. Many programs write a wrong file size."""
    start, header = (int.from_bytes(data[at : at + 4], "little") for at in (10, 14))
    at = 24 if header == 12 else 28
    bits = int.from_bytes(data[at : at + 2], "little")
    length = (size[0] * bits + 31) // 32 * 4 * size[1] - 3  # the last padding may be missing
    if header > 12 and int.from_bytes(data[30:34], "little") in BMP_PACKED:
        length = int.from_bytes(data[34:38], "little")
    return start + length <= len(data)


def _refuse_many_scans(data: bytes) -> None:
    if data.count(b"\xff\xda") <= MAX_SCANS:
        return
    # The count above may include chance matches in data after the image, such as a phone's video.
    if _jpeg_scans(data) > MAX_SCANS:
        raise TooCostlyImageError(
            f"The JPEG has more than {MAX_SCANS} scans; ordinary files have about ten"
        )


def _jpeg_scans(data: bytes) -> int:
    """Count the scans of the first image in the file, up to just above MAX_SCANS."""
    position, scans = _jpeg_scan_start(data), 0
    for _ in range(MOST_PARTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None or found[0] == b"\xff\xd9" or scans > MAX_SCANS:
            return scans
        scans += found[0] == b"\xff\xda"
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + max(2, length)
    raise too_many_parts()


def _jpeg_scan_start(data: bytes) -> int:
    """The offset of the first scan. End markers before it belong to an embedded thumbnail."""
    position = 2
    for _ in range(MOST_PARTS):
        if position + 4 > len(data):
            return len(data)
        if data[position] != 0xFF:
            return position
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
        elif marker == 0xDA:
            return position
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise too_many_parts()
