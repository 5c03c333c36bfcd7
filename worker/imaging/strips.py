"""Reads packed rows of samples with libtiff: those of TIFFs, and of others that are packed alike.

Pillow knows few arrangements of samples, at most 8 bits of most, and reads some of them wrong. What
libtiff unpacks are only bytes. So the file is described anew as a grey picture of bytes, and numpy
arranges them.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from shared.errors import TruncatedImageError
from worker.imaging.arrays import Image

NONE, PACK_BITS = 1, 32773
COMPRESSIONS = frozenset({NONE, 5, 8, PACK_BITS, 32946, 34925, 50000})
"""TIFF's compressions of bytes: none, LZW, Deflate, PackBits, Deflate (old), LZMA, Zstandard."""

SHORT, LONG = 3, 4


@dataclass(frozen=True, slots=True)
class Strips:
    """Where the packed rows of one picture, or of one of its planes, lie in a file."""

    row_bytes: int
    """Unpacked bytes of one row."""
    height: int
    offsets: Sequence[int]
    lengths: Sequence[int]
    compression: int
    rows_per_strip: int
    tile: tuple[int, int] | None = None
    """Width in bytes and height of a tile, if it has tiles instead of strips."""


def read_strips(data: bytes, strips: Strips) -> Image:
    """The unpacked rows [height, row_bytes] uint8.

    Raises TruncatedImageError, and whatever Pillow raises for damaged data.
    """
    ends = (start + size for start, size in zip(strips.offsets, strips.lengths, strict=True))
    if max(ends, default=0) > len(data):
        raise TruncatedImageError("The image ends too early: the file was cut short")
    fields: dict[int, tuple[int, Sequence[int]]] = {
        256: (LONG, [strips.row_bytes]),
        257: (LONG, [strips.height]),
        258: (SHORT, [8]),
        259: (SHORT, [strips.compression]),
        262: (SHORT, [1]),
        277: (SHORT, [1]),
        284: (SHORT, [1]),
    }
    if strips.tile is None:
        fields[273] = (LONG, strips.offsets)
        fields[278] = (LONG, [strips.rows_per_strip])
        fields[279] = (LONG, strips.lengths)
    else:
        fields[322] = (LONG, [strips.tile[0]])
        fields[323] = (LONG, [strips.tile[1]])
        fields[324] = (LONG, strips.offsets)
        fields[325] = (LONG, strips.lengths)
    # The offsets stay right: the new header takes the place of the first bytes, and the new
    # directory follows the file.
    padded = data[8:] + bytes(len(data) % 2)
    directory = _directory(fields, 8 + len(padded))
    file = b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + directory
    with PIL.Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        return np.asarray(image)


def _directory(fields: dict[int, tuple[int, Sequence[int]]], start: int) -> bytes:
    """A TIFF directory that lies at `start`, with its values behind it."""
    entries, values = b"", b""
    behind = start + 2 + 12 * len(fields) + 4
    for tag, (kind, numbers) in sorted(fields.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == SHORT else 'I'}", *numbers)
        place = packed.ljust(4, b"\0")
        if len(packed) > 4:
            place = struct.pack("<I", behind + len(values))
            values += packed
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + place
    return struct.pack("<H", len(fields)) + entries + bytes(4) + values


def undo_predictor(
    rows: Image, dtype: "np.dtype[Any]", samples: int, predictor: int, tile_samples: int
) -> NDArray[Any]:
    """The samples [height, width * samples] of unpacked rows, in the machine's byte order.

    `predictor`: 1, 2 (differences, TIFF 6.0, section 14) or 3 (of floats, TIFF Technical Note 3).
    `tile_samples`: samples in a row of a tile, where differences begin anew.
    """
    if predictor == 1:
        return np.ascontiguousarray(rows).view(dtype).astype(dtype.newbyteorder("="), copy=False)
    step = tile_samples * dtype.itemsize
    pieces = [
        _undo_in_tile(np.ascontiguousarray(rows[:, at : at + step]), dtype, samples, predictor)
        for at in range(0, rows.shape[1], step)
    ]
    return np.concatenate(pieces, axis=1)


def _undo_in_tile(
    rows: Image, dtype: "np.dtype[Any]", samples: int, predictor: int
) -> NDArray[Any]:
    height = rows.shape[0]
    if predictor == 2:
        values = rows.view(dtype).astype(dtype.newbyteorder("="))
        values = values.reshape(height, -1, samples)
        return np.add.accumulate(values, axis=1, dtype=values.dtype).reshape(height, -1)
    # The bytes of all floats of a row are stored plane by plane, the highest first, and then as
    # differences.
    summed = np.add.accumulate(rows.reshape(height, -1, samples), axis=1, dtype=np.uint8)
    planes = summed.reshape(height, dtype.itemsize, -1)
    ordered = np.ascontiguousarray(planes.transpose(0, 2, 1)).reshape(height, -1)
    return ordered.view(dtype.newbyteorder(">")).astype(dtype.newbyteorder("="))
