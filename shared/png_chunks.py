"""The chunks of a PNG: walking them within a limit, and leaving out those that spoil the pixels.

A decoder that meets a damaged comment or EXIF block gives up the whole file, though every browser
shows it. So decoders get the file without damaged chunks and without those that nobody reads.
"""

import zlib
from collections.abc import Iterator

from shared.errors import TooCostlyImageError

MOST_PARTS = 100_000
"""Most chunks of a PNG, segments of a JPEG, strips or tiles of a TIFF."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

END_CHUNK = b"\0\0\0\0IEND\xaeB`\x82"

LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9}
"""Lengths of the chunks that have one (PNG, 3rd edition, 11.3). Pillow refuses others."""

ONCE = frozenset({*LENGTHS, b"tRNS", b"iCCP", b"eXIf"})
"""Chunks of which the first counts."""

TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
FRAMES = frozenset({b"acTL", b"fcTL", b"fdAT"})
"""Chunks of an animation. Its first picture is an ordinary PNG without them."""

READ_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Texts that may hold the orientation, where programs without eXIf write it."""

MAX_TEXT_BYTES = 64 * 1024

MAX_UNPACKED_BYTES = 1024**2
"""Pillow refuses a file whose text or profile is larger than this, unpacked."""


MOST_UNPACKED = 8
"""Texts and profiles that are unpacked, of one file: each may become a megabyte, and 50 MB hold
50,000 of them.
"""


def too_many_parts() -> TooCostlyImageError:
    """The error for a file with too many parts."""
    return TooCostlyImageError("The file consists of far too many parts")


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


def readable_png(data: bytes) -> bytes:
    """The file without the chunks that spoil the reading of its pixels.

    An eXIf chunk behind the pixels moves before them, where Pillow looks for it. The file itself if
    nothing changes. Raises TooCostlyImageError.
    """
    before: list[bytes | memoryview] = []
    behind: list[bytes | memoryview] = []
    view = memoryview(data)
    seen: set[bytes] = set()
    changed, ended, unpacked = False, False, 0
    for kind, begin, end in png_chunks(data):
        if kind == b"IEND":
            ended = view[begin:end] == END_CHUNK
        elif _is_critical(kind):
            (behind if kind == b"IDAT" or behind else before).append(view[begin:end])
        elif (
            kind not in seen
            and (not _is_packed(kind, view, begin) or (unpacked := unpacked + 1) <= MOST_UNPACKED)
            and _is_harmless(kind, view, begin, end)
        ):
            changed = changed or bool(behind)
            before.append(view[begin:end])
            seen.update({kind} & ONCE)
        else:
            changed = True
    if ended and not changed:
        return data
    return b"".join([data[:8], *before, *behind, END_CHUNK])


def png_is_complete(data: bytes) -> bool:
    """Whether every chunk up to the end marker lies within the file; a file that lost only the
    end marker is complete when its packed pixels are.

    OpenCV trusts a chunk's length field and allocates up to 4 GB for a chunk that is missing.
    """
    unpacker = zlib.decompressobj()
    chunks = list(png_chunks(data))
    if any(kind == b"IEND" for kind, _, _ in chunks):
        return True
    if not chunks or chunks[-1][2] > len(data):
        return False
    try:
        for kind, begin, end in chunks:
            if kind == b"IDAT":
                piece = data[begin + 8 : end - 4]
                while piece and not unpacker.eof:
                    unpacker.decompress(piece, MAX_UNPACKED_BYTES)
                    piece = unpacker.unconsumed_tail
    except zlib.error:
        return False
    return unpacker.eof


def _is_critical(kind: bytes) -> bool:
    """Critical chunks begin with a capital letter (PNG, 5.4)."""
    return not kind[0] & 0x20


def _is_packed(kind: bytes, view: memoryview, begin: int) -> bool:
    """Whether a chunk must be unpacked to know whether it is harmless."""
    return kind == b"iCCP" or (
        kind in TEXTS and bytes(view[begin + 8 : begin + 32]).startswith(READ_TEXTS)
    )


def _is_harmless(kind: bytes, view: memoryview, begin: int, end: int) -> bool:
    """Whether a chunk beside the pixels is whole, and of a size that Pillow accepts."""
    content = view[begin + 8 : end - 4]
    if end > len(view) or kind in FRAMES or len(content) != LENGTHS.get(kind, len(content)):
        return False
    if kind in TEXTS and not bytes(content[:24]).startswith(READ_TEXTS):
        return False
    if len(content) > MAX_UNPACKED_BYTES:
        return False
    if zlib.crc32(view[begin + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
        return False
    return _unpacks(kind, bytes(content)) if kind in TEXTS or kind == b"iCCP" else True


def _unpacks(kind: bytes, content: bytes) -> bool:
    """Whether a text or profile unpacks, and to less than Pillow's limit."""
    _, _, rest = content.partition(b"\0")
    if kind == b"tEXt":
        return len(rest) < MAX_TEXT_BYTES
    if kind == b"iTXt":
        if not rest.startswith(b"\1\0"):
            return rest.startswith(b"\0") and len(rest) < MAX_TEXT_BYTES
        rest = rest[2:].split(b"\0", 2)[-1]
    else:
        rest = rest[1:]
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(rest, MAX_UNPACKED_BYTES)
    except zlib.error:
        return False
    return unpacker.eof and len(unpacked) < MAX_UNPACKED_BYTES
