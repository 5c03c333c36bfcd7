"""Reads the samples of TIFFs: 8 and 16 bits and floats, in one plane or several, with their alpha.

Other TIFFs (1 to 4 bits, palettes, JPEG, YCbCr, Lab, fax) are left to Pillow.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import TruncatedImageError, UnsupportedImageError
from worker.imaging.samples import FULL, Samples
from worker.imaging.strips import COMPRESSIONS, Strips, read_strips, undo_predictor

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_LENGTHS = 273, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_LENGTH = 284, 317, 322, 323
TILE_OFFSETS, TILE_LENGTHS, EXTRA_SAMPLES, SAMPLE_FORMAT = 324, 325, 338, 339

WEBP = 50001
MIN_IS_WHITE = 0
SPACES = {MIN_IS_WHITE: "L", 1: "L", 2: "RGB", 5: "CMYK"}
"""The colour space by the photometric interpretation (TIFF 6.0, section 4)."""

CHANNELS = {"L": 1, "RGB": 3, "CMYK": 4}

ASSOCIATED, UNASSOCIATED = 1, 2
"""Values of ExtraSamples: alpha that the colours are multiplied with, and plain alpha. 0 is a plane
of no known meaning, such as a saved selection."""

UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def read_tiff(data: bytes, header: TiffImageFile) -> Samples | None:
    """The samples of a TIFF as they are stored, not turned; None if Pillow reads it.

    Raises UnsupportedImageError, TruncatedImageError, and whatever Pillow raises.
    """
    tags = header.tag_v2
    bits = tags.get(BITS, (1,))
    space = SPACES.get(tags.get(PHOTOMETRIC, MIN_IS_WHITE))
    form = set(tags.get(SAMPLE_FORMAT, (UNSIGNED,)))
    dtype = _sample_type(bits, form, tags.prefix)
    if tags.get(COMPRESSION, 1) == WEBP:
        raise UnsupportedImageError("The TIFF is packed as WebP, which is not read")
    if dtype is None or tags.get(FILL_ORDER, 1) != 1:
        if max(bits) > 8:
            raise UnsupportedImageError(
                f"The TIFF has samples of {max(bits)} bits, in a form that is not read"
            )
        return None
    if space is None or tags.get(COMPRESSION, 1) not in COMPRESSIONS:
        if max(bits) > 8:
            raise UnsupportedImageError(
                f"The TIFF has {max(bits)} bits, and a colour space or compression that is not read"
            )
        return None
    values = _planes(data, tags, dtype, len(bits) if len(bits) > 1 else tags.get(SAMPLES, 1))
    values = _in_range(values)
    count = CHANNELS[space]
    if values.shape[2] < count:
        raise TruncatedImageError("The TIFF has fewer samples than its colour space needs")
    extra = tags.get(EXTRA_SAMPLES, ())
    if not extra and space == "RGB" and values.shape[2] == 4:
        extra = (UNASSOCIATED,)  # as Pillow and others take files that don't say
    alpha = None
    if extra and values.shape[2] > count and extra[0] in (ASSOCIATED, UNASSOCIATED, 999):
        alpha = values[..., count]
    colours = values[..., :count]
    if tags.get(PHOTOMETRIC, MIN_IS_WHITE) == MIN_IS_WHITE:
        if alpha is not None and extra[0] == ASSOCIATED:
            raise UnsupportedImageError("The TIFF counts ink and is multiplied with its alpha")
        colours = values.dtype.type(FULL[values.dtype]) - colours
    return Samples(colours, space, alpha, bool(extra) and extra[0] == ASSOCIATED)


def _sample_type(bits: tuple[int, ...], form: set[int], order: bytes) -> "np.dtype[Any] | None":
    if len(set(bits)) != 1 or len(form) != 1:
        return None
    kind = {(8, UNSIGNED): "u1", (16, UNSIGNED): "u2", (16, FLOAT): "f2", (32, FLOAT): "f4"}
    name = kind.get((bits[0], next(iter(form))))
    return None if name is None else np.dtype((">" if order == b"MM" else "<") + name)


def _planes(data: bytes, tags: Any, dtype: "np.dtype[Any]", count: int) -> NDArray[Any]:
    """The samples [h, w, count]."""
    width, height = int(tags[WIDTH]), int(tags[LENGTH])
    planes = count if tags.get(PLANAR, 1) == 2 else 1
    within = count // planes
    tiled = TILE_OFFSETS in tags
    offsets = tags[TILE_OFFSETS if tiled else STRIP_OFFSETS]
    per_plane = len(offsets) // planes
    lengths = tags.get(TILE_LENGTHS if tiled else STRIP_LENGTHS)
    rows_per_strip = min(int(tags.get(ROWS_PER_STRIP, height)), height)
    tile_samples = (int(tags[TILE_WIDTH]) if tiled else width) * within
    row_bytes = width * within * dtype.itemsize
    if lengths is None or len(lengths) != len(offsets):
        if tags.get(COMPRESSION, 1) != 1 or len(offsets) != planes:
            raise TruncatedImageError("The TIFF does not say how long its strips are")
        lengths = [row_bytes * height] * planes
    found = []
    for plane in range(planes):
        part = slice(plane * per_plane, (plane + 1) * per_plane)
        strips = Strips(
            row_bytes,
            height,
            offsets[part],
            lengths[part],
            int(tags.get(COMPRESSION, 1)),
            rows_per_strip,
            (tile_samples * dtype.itemsize, int(tags[TILE_LENGTH])) if tiled else None,
        )
        rows = read_strips(data, strips)
        predictor = int(tags.get(PREDICTOR, 1)) if tags.get(COMPRESSION, 1) != 1 else 1
        values = undo_predictor(rows, dtype, within, predictor, tile_samples)
        found.append(values.reshape(height, width, within))
    return found[0] if planes == 1 else np.concatenate(found, axis=2)


def _in_range(values: NDArray[Any]) -> NDArray[Any]:
    """Floats in 0..1. Programs write them in 0..1, as 8-bit or as 16-bit numbers: the smallest of
    these ranges that holds the brightest sample is meant.
    """
    if values.dtype.kind != "f":
        return values
    values = np.nan_to_num(values.astype(np.float32, copy=False), posinf=0, neginf=0)
    highest = float(values.max(initial=0))
    scale = next((top for top in (1, 255, 65_535) if highest <= top * 1.01), highest)
    return (values / np.float32(scale)).clip(0, 1)
