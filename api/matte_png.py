"""Mattes as PNG files: the header of one that is sent, and one taken from a cut-out's alpha
channel.

The API decodes no pixels. In an RGBA PNG every filter predicts a byte from bytes of the same
channel (PNG specification, 9.2), so the filter type and every fourth byte of a row are a row of a
grey PNG as they stand. A picture of any size passes through with a few rows in memory.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from shared.errors import InvalidMatteError, NotKeptError, TooCostlyImageError
from shared.png_chunks import PNG_SIGNATURE, png_chunks

GREY, RGBA = 0, 6
"""Colour types of PNG."""

HEADER = struct.Struct(">II5B")
"""IHDR: width, height, bit depth, colour type, compression, filter, interlacing."""

UNPACKED_BYTES = 256 * 1024
"""Most bytes that are unpacked at a time."""

PACKED_BYTES = 64 * 1024
"""Bytes of one IDAT chunk, about."""


PIXEL_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND"})


def checked_matte(data: bytes | bytearray, width: int, height: int) -> bytes:
    """An 8-bit grey PNG of that size with nothing but its pixels: a gamma or a profile would change
    the values when it is decoded, which the worker does.

    Raises InvalidMatteError if the chunks tell that it is anything else.
    """
    if not data.startswith(PNG_SIGNATURE):
        raise InvalidMatteError("The body is not a PNG file")
    try:
        chunks = list(png_chunks(bytes(data)))
    except TooCostlyImageError as error:
        raise InvalidMatteError(error.detail) from error
    if not chunks or chunks[0][0] != b"IHDR" or chunks[-1][0] != b"IEND":
        raise InvalidMatteError("The PNG file is cut off")
    _, begin, end = chunks[0]
    if end - begin != 12 + HEADER.size or chunks[-1][2] > len(data):
        raise InvalidMatteError("The PNG file is damaged")
    found_width, found_height, depth, colour, *_ = HEADER.unpack_from(data, begin + 8)
    if (depth, colour) != (8, GREY) or any(kind == b"tRNS" for kind, _, _ in chunks):
        raise InvalidMatteError("The PNG must have one grey channel of 8 bits")
    if (found_width, found_height) != (width, height):
        raise InvalidMatteError(
            f"The matte has {found_width} x {found_height} pixels, the photo {width} x {height}"
        )
    kept = [data[begin:end] for kind, begin, end in chunks if kind in PIXEL_CHUNKS]
    return PNG_SIGNATURE + b"".join(kept)


def alpha_as_grey_png(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """An 8-bit grey PNG of the alpha channel of an RGBA PNG that comes in pieces. Raises
    NotKeptError before the first piece if the file is another kind of PNG.
    """
    chunks = _chunks(pieces)
    kind, header = next(chunks)
    if kind != b"IHDR" or len(header) != HEADER.size:
        raise NotKeptError("The result is not a PNG file")
    width, height, depth, colour, *_, interlaced = HEADER.unpack(header)
    if (depth, colour, interlaced) != (8, RGBA, 0):
        raise NotKeptError("The result's PNG has no 8-bit alpha channel")
    rows = _alpha_rows((data for kind, data in chunks if kind == b"IDAT"), 1 + 4 * width)
    return _grey_png(width, height, rows)


def _grey_png(width: int, height: int, rows: Iterator[bytes]) -> Iterator[bytes]:
    header = HEADER.pack(width, height, 8, GREY, 0, 0, 0)
    yield PNG_SIGNATURE + _chunk(b"IHDR", header)
    packer, packed = zlib.compressobj(1), bytearray()
    for some in rows:
        packed += packer.compress(some)
        if len(packed) >= PACKED_BYTES:
            yield _chunk(b"IDAT", packed)
            packed = bytearray()
    yield _chunk(b"IDAT", packed + packer.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes | bytearray) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return len(data).to_bytes(4, "big") + kind + bytes(data) + checksum.to_bytes(4, "big")


def _alpha_rows(packed: Iterator[bytes], row_bytes: int) -> Iterator[bytes]:
    """The filter type and the alpha bytes of whole rows."""
    unpacker, rest = zlib.decompressobj(), b""
    for data in packed:
        while data:
            rest += unpacker.decompress(data, max(UNPACKED_BYTES, row_bytes))
            data = unpacker.unconsumed_tail
            whole = len(rest) - len(rest) % row_bytes
            if whole:
                rows = np.frombuffer(rest[:whole], np.uint8).reshape(-1, row_bytes)
                yield rows[:, ::4].tobytes()
                rest = rest[whole:]


def _chunks(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of the chunks; a long chunk comes in several parts of its kind."""
    pending = bytearray()

    def fill(size: int) -> bool:
        while len(pending) < size:
            piece = next(pieces, b"")
            if not piece:
                return False
            pending.extend(piece)
        return True

    if not fill(8) or not pending.startswith(PNG_SIGNATURE):
        yield b"", b""
        return
    del pending[:8]
    while fill(8):
        left, kind = int.from_bytes(pending[:4], "big"), bytes(pending[4:8])
        del pending[:8]
        while left > UNPACKED_BYTES and fill(1):
            part = bytes(pending[: min(left, UNPACKED_BYTES)])
            del pending[: len(part)]
            left -= len(part)
            yield kind, part
        if not fill(left + 4):
            return
        yield kind, bytes(pending[:left])
        del pending[: left + 4]
        if kind == b"IEND":
            return
