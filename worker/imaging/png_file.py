"""Writing of PNG files (PNG, third edition, W3C 2025): the UP filter, and ISA-L's deflate.

Most results are PNG, and their encoding took 40 % of an image's CPU time at 12 MP. ISA-L compresses
five times as fast as the zlib in OpenCV, to about the same size, and releases the GIL. The picture
is filtered and compressed in strips that fit into the processor's cache.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from isal import isal_zlib

from worker.imaging.arrays import Image
from worker.imaging.metadata import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"

COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""PNG's number for grey, RGB and RGBA, by channels."""

BIT_DEPTH = 8

FILTER_UP = 2
"""Each byte minus the byte above it. On cut-outs it gives 5 to 15 % fewer bytes than SUB or
AVERAGE, and as few as PAETH, which takes longer (tests/benchmarks/README.md)."""

LEVEL = 2
"""ISA-L's levels are 0 to 3. Level 3 takes three times as long and is no smaller."""

STRIP_BYTES = 1 << 20
"""Size of a strip of rows. 256 KiB take as long, the whole picture at once a quarter longer."""

METRES_PER_INCH = 0.0254


def encode_png(pixels: Image, metadata: Metadata) -> bytes:
    """Encode [H, W, 4] RGBA, [H, W, 3] RGB or [H, W] grey, all uint8, as PNG.

    The same pixels give the same bytes: the file has no time stamp.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    header = struct.pack(">IIBBBBB", width, height, BIT_DEPTH, COLOUR_TYPES[channels], 0, 0, 0)
    parts = [SIGNATURE, *_chunk(b"IHDR", header)]
    for kind, data in _metadata_chunks(metadata):
        parts += _chunk(kind, data)
    for data in _compressed(pixels.reshape(height, width * channels)):
        parts += _chunk(b"IDAT", data)
    parts += _chunk(b"IEND", b"")
    return b"".join(parts)


def _metadata_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    if metadata.icc:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        per_metre = round(metadata.dpi / METRES_PER_INCH)
        yield b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)
    if exif := metadata.exif_bytes(with_dpi=False):
        yield b"eXIf", exif.removeprefix(b"Exif\0\0")


def _compressed(rows: Image) -> Iterator[bytes]:
    """Filter and compress rows [H, bytes of a row] uint8, strip by strip."""
    height, row_bytes = rows.shape
    step = max(1, STRIP_BYTES // row_bytes)
    strip = np.empty((min(step, height), 1 + row_bytes), np.uint8)
    strip[:, 0] = FILTER_UP
    deflate = isal_zlib.compressobj(LEVEL)
    for start in range(0, height, step):
        end = min(start + step, height)
        filtered = strip[: end - start]
        if start == 0:
            filtered[0, 1:] = rows[0]  # the row above the first one is 0
            np.subtract(rows[1:end], rows[: end - 1], out=filtered[1:, 1:])
        else:
            np.subtract(rows[start:end], rows[start - 1 : end - 1], out=filtered[:, 1:])
        if data := deflate.compress(filtered):
            yield data
    yield deflate.flush()


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """A chunk's length, name, data and checksum."""
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)
