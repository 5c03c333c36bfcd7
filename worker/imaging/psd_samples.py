"""Reads the samples of a Photoshop document's merged picture."""

import numpy as np

from shared.errors import TruncatedImageError, UnsupportedImageError
from shared.psd_header import read_psd
from worker.imaging.samples import Samples
from worker.imaging.strips import NONE, PACK_BITS, Strips, read_strips

CHANNELS = {"L": 1, "RGB": 3, "CMYK": 4}
RAW, RUNS = 0, 1
"""Values of the picture's compression that programs write."""


def read_psd_samples(data: bytes) -> Samples:
    """The samples, with white behind half-transparent colours taken away.

    Raises UnsupportedImageError, TruncatedImageError, and whatever Pillow raises.
    """
    picture = read_psd(data)
    count = CHANNELS[picture.space]
    compression = int.from_bytes(data[picture.start : picture.start + 2], "big")
    if compression not in (RAW, RUNS):
        raise UnsupportedImageError("The Photoshop document is packed in a way that is not read")
    if picture.channels < count:
        raise TruncatedImageError("The Photoshop document has too few channels")
    row_bytes = picture.width * picture.bits // 8
    rows = picture.channels * picture.height
    start = picture.start + 2
    lengths = np.full(rows, row_bytes, np.int64)
    if compression == RUNS:
        if len(data) < start + 2 * rows:
            raise TruncatedImageError("The image ends too early: the file was cut short")
        lengths = np.frombuffer(data, ">u2", rows, start).astype(np.int64)
        start += 2 * rows
    offsets = start + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    kept = count + (picture.has_alpha and picture.channels > count)
    planes = []
    for plane in range(kept):
        part = slice(plane * picture.height, (plane + 1) * picture.height)
        strips = Strips(
            row_bytes,
            picture.height,
            offsets[part].tolist(),
            lengths[part].tolist(),
            PACK_BITS if compression == RUNS else NONE,
            rows_per_strip=1,
        )
        unpacked = np.ascontiguousarray(read_strips(data, strips))
        planes.append(unpacked.view(">u2" if picture.bits == 16 else "u1"))
    values = np.stack(planes, axis=-1)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    full = values.dtype.type(2**picture.bits - 1)
    colours = values[..., :count]
    if picture.space == "CMYK":
        return Samples(full - colours, "CMYK", values[..., count] if kept > count else None)
    if kept == count:
        return Samples(colours, picture.space)
    # Photoshop merges on white: without the white, the colours are multiplied with alpha.
    alpha = values[..., count]
    white = (full - alpha)[..., None]
    return Samples(np.maximum(colours, white) - white, picture.space, alpha, premultiplied=True)
