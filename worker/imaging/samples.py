"""The samples of a photo as numbers, before they become sRGB: what readers of files give."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from shared.errors import UnsupportedImageError
from worker.imaging.arrays import Image

FULL = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65_535.0, np.dtype(np.float32): 1.0}
"""The value of full intensity by type."""

ROWS_PIXELS = 1 << 17
"""Pixels that are converted at a time, to bound the memory."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a photo."""

    values: NDArray[Any]
    """[h, w, channels], uint8, uint16 or float32 in 0..1."""
    space: str
    """L, RGB, CMYK or LAB, as Pillow names them; CMYK counts ink, L light."""
    alpha: NDArray[Any] | None = None
    """[h, w] of the same type; None: opaque."""
    premultiplied: bool = False
    """Whether the colours are multiplied by alpha already (associated alpha)."""


def to_uint8(values: NDArray[Any]) -> Image:
    """Samples as uint8, rounded."""
    if values.dtype == np.uint8:
        return values
    result = np.empty(values.shape, np.uint8)
    scale = np.float32(255 / FULL[values.dtype])
    for rows in row_blocks(values.shape[0], values.shape[1]):
        block = values[rows].astype(np.float32) * scale
        result[rows] = np.rint(np.nan_to_num(block).clip(0, 255))
    return result


def row_blocks(height: int, width: int) -> list[slice]:
    """Blocks of rows with about ROWS_PIXELS pixels each."""
    step = max(1, ROWS_PIXELS // max(1, width))
    return [slice(start, min(start + step, height)) for start in range(0, height, step)]


def unmultiplied(samples: Samples) -> Samples:
    """The same with colours that are not multiplied by alpha."""
    if samples.alpha is None or not samples.premultiplied:
        return samples
    values = np.empty_like(samples.values)
    full = np.float32(FULL[values.dtype])
    for rows in row_blocks(*values.shape[:2]):
        share = samples.alpha[rows].astype(np.float32)[..., None]
        plain = samples.values[rows].astype(np.float32) * full
        plain = np.divide(plain, share, out=np.zeros_like(plain), where=share > 0).clip(0, full)
        values[rows] = plain if values.dtype == np.float32 else np.rint(plain)
    return Samples(values, samples.space, samples.alpha)


def read_with_pillow(image: PIL.Image.Image) -> Samples:
    """The samples of a file with 8 bits or fewer, turned as Pillow turns it. Raises whatever
    Pillow raises.
    """
    tiles: Any = getattr(image, "tile", None)
    shades = _LOW_GREYS.get(str(tiles[0].args)) if tiles else None
    image.load()
    if shades and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= 255 // shades  # Pillow spreads the greys, and not this one
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA" if _has_alpha(image) else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode == "YCbCr":
        image = image.convert("RGB")
    values = np.asarray(image)
    if values.ndim == 2:
        values = values[..., None]
    mode = image.mode.upper()
    if mode in ("LA", "RGBA"):
        return Samples(values[..., :-1], mode[:-1], values[..., -1], image.mode.endswith("a"))
    if mode in ("L", "RGB", "CMYK", "LAB"):
        return Samples(values, mode)
    raise UnsupportedImageError(f"The image has an arrangement that is not read ({image.mode})")


_LOW_GREYS = {"L;2": 3, "L;4": 15}
"""The brightest grey of a PNG with 2 and 4 bits, by Pillow's name of the arrangement."""


def _has_alpha(image: PIL.Image.Image) -> bool:
    return image.mode == "PA" or "transparency" in image.info
