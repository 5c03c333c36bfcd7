"""The segments before a JPEG's pixels: Pillow gives up the whole file on some broken ones."""

from collections.abc import Iterator

from shared.errors import UnsupportedImageError
from shared.png_chunks import MOST_PARTS, too_many_parts

SHORTEST = {b"ICC_PROFILE\0": 14, b"JFIF": 7, b"Adobe": 12, b"MPF\0": 12, b"Photoshop 3.0\0": 14}
"""Bytes at least of the known segments (JFIF 1.02, ICC.1:2022 B.4, TN 5116, CIPA DC-007)."""


FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a frame's header, one for each process of coding (ITU-T T.81, table B.1)."""

READ_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Sequential and progressive ones, in Huffman and arithmetic coding."""

JPEG_LS = 0xF7


def without_broken_segments(data: bytes) -> bytes:
    """The file without comments, and without known segments that are too short to be whole.

    Raises TooCostlyImageError.
    """
    kept = [data[:2]]
    end = 2
    for marker, begin, end in _segments(data):
        content = data[begin + 4 : end]
        known = next((length for name, length in SHORTEST.items() if content.startswith(name)), 0)
        is_application = 0xE0 <= marker <= 0xEF
        if marker != 0xFE and not (is_application and len(content) < known):
            kept.append(data[begin:end])
    return b"".join([*kept, data[end:]])


def refuse_other_jpeg(data: bytes) -> None:
    """Raise UnsupportedImageError for a kind of JPEG that decoders of photos don't read.

    Raises TooCostlyImageError.
    """
    for marker, begin, _end in _segments(data):
        if marker == JPEG_LS or (marker in FRAMES and marker not in READ_FRAMES):
            raise UnsupportedImageError("The JPEG is coded without loss, as medical scanners do")
        if marker in FRAMES:
            bits = data[begin + 4 : begin + 5]
            if bits not in (b"", b"\x08"):
                raise UnsupportedImageError(
                    f"The JPEG has {bits[0]} bits a sample; only 8 can be read"
                )
            return


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the pixels. Raises TooCostlyImageError."""
    position = 2
    for _ in range(MOST_PARTS):
        marker = data[position + 1 : position + 2]
        if data[position : position + 1] != b"\xff" or marker in (b"", b"\xda"):
            return
        if marker == b"\xff":  # padding
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker[0], position, end
        position = end
    raise too_many_parts()
