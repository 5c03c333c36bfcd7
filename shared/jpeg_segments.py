"""The segments before a JPEG's pixels: Pillow gives up the whole file on some broken ones."""

from shared.png_chunks import MOST_PARTS, too_many_parts

SHORTEST = {b"ICC_PROFILE\0": 14, b"JFIF": 7, b"Adobe": 12, b"MPF\0": 12, b"Photoshop 3.0\0": 14}
"""Bytes at least of the known segments (JFIF 1.02, ICC.1:2022 B.4, TN 5116, CIPA DC-007)."""


def without_broken_segments(data: bytes) -> bytes:
    """The file without comments, and without known segments that are too short to be whole.

    Raises TooCostlyImageError.
    """
    kept = [data[:2]]
    position = 2
    for _ in range(MOST_PARTS):
        marker = data[position + 1 : position + 2]
        if data[position : position + 1] != b"\xff" or marker in (b"", b"\xda"):
            return b"".join([*kept, data[position:]])
        if marker == b"\xff":  # padding
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        content = data[position + 4 : end]
        known = next((length for name, length in SHORTEST.items() if content.startswith(name)), 0)
        is_application = 0xE0 <= marker[0] <= 0xEF
        if marker != b"\xfe" and not (is_application and len(content) < known):
            kept.append(data[position:end])
        position = end
    raise too_many_parts()
