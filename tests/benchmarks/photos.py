"""Photos for the benchmarks: drawn, so that anyone can repeat the figures; or, with `--photos
FOLDER`, the JPEGs of a folder.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Image, Size

JPEG_QUALITY = 90
NOISE = 3.0
"""Standard deviation of a camera's noise, in grey levels. Without noise JPEG and PNG are
too fast.
"""

RATIOS = (9 / 16, 2 / 3, 3 / 4, 4 / 5, 1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9)
"""Ratios of width to height, from portrait to landscape."""


def size_of(megapixels: float, ratio: float) -> Size:
    """Height and width of a photo with this many pixels."""
    height = round((megapixels * 1e6 / ratio) ** 0.5)
    return height, round(height * ratio)


def draw(size: Size, seed: int) -> Image:
    """Draw a dark, shaded, soft-edged subject on a bright, uneven wall: [H, W, 3] uint8 RGB.

    It is so simple that a correct matte gets no review marks, which would cost a second look.
    """
    rng = np.random.default_rng(seed)
    wall = rng.uniform(170, 245, (5, 5, 3)).astype(np.float32)
    cloth = rng.uniform(5, 80, (24, 24, 3)).astype(np.float32)
    soft = subject(size)[..., None]
    photo = soft * _stretched(cloth, size) + (1 - soft) * _stretched(wall, size)
    photo += rng.standard_normal(photo.shape, dtype=np.float32) * NOISE
    drawn: Image = np.clip(photo, 0, 255).astype(np.uint8)
    return drawn


def subject(size: Size) -> NDArray[np.float32]:
    """The alpha of the subject that `draw` draws: [H, W] in 0..1."""
    height, width = size
    mask = np.zeros(size, np.float32)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 4, height // 3), 0, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(mask, (0, 0), max(0.8, width / 800)).astype(np.float32)


def jpeg(image: Image) -> bytes:
    """The photo as a JPEG file."""
    return bytes(
        cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    )


def files(
    folder: Path | None, *, count: int, megapixels: float, ratios: Sequence[float] = RATIOS
) -> list[bytes]:
    """The JPEGs of a folder, or `count` drawn ones with all ratios in turn."""
    if folder is not None:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
        return [path.read_bytes() for path in paths]
    sizes = [size_of(megapixels, ratios[index % len(ratios)]) for index in range(count)]
    return [jpeg(draw(size, seed)) for seed, size in enumerate(sizes)]


def _stretched(values: NDArray[np.float32], size: Size) -> Image:
    return cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]
