"""Foreground colours of half-transparent edge pixels, estimated without the old background.

An edge pixel mixes the subject's colour with the background's: I = αF + (1 - α)B. Without the
estimate of F, a cut-out shows a halo of its old background.

The method is blur fusion (Forte, "Approximate fast foreground colour estimation", ICIP 2021) with
three changes, each measured in tests/benchmarks/edges:
- The local means are taken at a reduced size. Only the transition pixels are computed at full size.
- Least squares split the residual of the equation between F and B.
- A second pass with a smaller window restores the texture that the first pass blurs.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Image, Plane, Size
from worker.imaging.resample import small_copy

PixelIndices = NDArray[np.int64]
"""Flat (row-major) indices of N pixels of an image, [N]."""

FIRST_RADIUS, SECOND_RADIUS = 0.06, 0.015
"""Window radius of the first and the second pass, as a share of the longer side."""

ALPHA_POWER = 6
"""Exponent of alpha in a pixel's weight for the first pass. Half-transparent pixels contain much
background colour; this exponent ignores them wherever the window holds solid pixels."""

FOREGROUND_WEIGHT = (((np.arange(256) / 255) ** ALPHA_POWER) + 1e-6).astype(np.float32)
BACKGROUND_WEIGHT = FOREGROUND_WEIGHT[::-1].copy()
"""Weight of a pixel in the first pass, by its alpha 0..255. Never 0: every window needs a mean."""

MIN_WEIGHT = np.float32(1e-4)
"""Smallest weight of a pixel in the second pass, for the same reason."""

BLOCK_PIXELS = 1 << 19
"""Edge pixels that are computed at a time: each takes about 100 bytes, and of smoke, or in the
profile `exact`, all pixels of a photo may be edge."""

REMAP_ROW = 16_384
"""Row length of the sample grid: cv2.remap accepts sides up to 32,767 only."""


def transition_pixels(alpha: Image) -> PixelIndices:
    """The indices [N] of the pixels with 0 < alpha < 255, of an alpha [H, W] uint8."""
    left, top, width, height = cv2.boundingRect(alpha)  # without the empty margin: half the time
    if width == 0:
        return np.empty(0, np.int64)
    inside = cv2.inRange(alpha[top : top + height, left : left + width], 1, 254)
    # OpenCV's type stubs omit that findNonZero returns None when it finds nothing.
    found: NDArray[np.int32] | None = cv2.findNonZero(inside)  # type: ignore
    if found is None:
        return np.empty(0, np.int64)
    columns, rows = found.reshape(-1, 2).T  # [N, 1, 2], in OpenCV 5 [N, 2]
    indices: PixelIndices = rows.astype(np.int64)
    indices += top
    indices *= alpha.shape[1]
    indices += columns
    indices += left
    return indices


def blocks(indices: PixelIndices) -> Iterator[slice]:
    """The parts of indices [N] that are computed one after another."""
    for start in range(0, len(indices), BLOCK_PIXELS):
        yield slice(start, start + BLOCK_PIXELS)


def estimate_foreground(
    image: Image, alpha: Image, indices: PixelIndices, small: Image | None = None
) -> Image:
    """Estimate the foreground colours [N, 3] uint8 RGB of N pixels.

    `image` is [H, W, 3] uint8 RGB, `alpha` is [H, W] uint8, `small` is the image's small_copy
    where it is at hand. A pixel without solid foreground in its
    window keeps roughly its own colour.
    """
    if len(indices) == 0:
        return np.empty((0, 3), np.uint8)
    height, width = alpha.shape
    if small is None:
        small = small_copy(image)
    foreground, background = _estimate_layers(small.astype(np.float32), small_copy(alpha))

    colours = np.empty((len(indices), 3), np.uint8)
    for part in blocks(indices):
        x, y = scaled_coordinates(indices[part], (height, width), small.shape[:2])
        opacity = alpha.reshape(-1)[indices[part]].astype(np.float32)[:, None] / np.float32(255)
        channels = [
            cv2.convertScaleAbs(np.maximum(_split_residual(observed, opacity, fg, bg)[0], 0))
            for observed, fg, bg in zip(
                cv2.split(image.reshape(-1, 1, 3)[indices[part]]),
                sample_bilinear(foreground, x, y),
                sample_bilinear(background, x, y),
                strict=True,
            )
        ]
        colours[part] = cv2.merge(channels).reshape(-1, 3)
    return colours


def _estimate_layers(image: Plane, alpha: Image) -> tuple[Plane, Plane]:
    """Both passes: foreground and background colours [h, w, 3], 0..255, of every pixel.

    `image` is [h, w, 3] float32 in 0..255, `alpha` is [h, w] uint8.
    """
    opacity: Plane = cv2.merge([alpha] * 3).astype(np.float32) / np.float32(255)
    fg = _weighted_box_mean(image, FOREGROUND_WEIGHT[alpha], FIRST_RADIUS)
    bg = _weighted_box_mean(image, BACKGROUND_WEIGHT[alpha], FIRST_RADIUS)
    fg, bg = (np.clip(layer, 0, 255) for layer in _split_residual(image, opacity, fg, bg))
    weight = opacity[..., 0] + MIN_WEIGHT
    return (
        _weighted_box_mean(fg, weight, SECOND_RADIUS),
        _weighted_box_mean(bg, 1 + 2 * MIN_WEIGHT - weight, SECOND_RADIUS),
    )


def _split_residual(
    observed: NDArray[Any], opacity: Plane, fg: Plane, bg: Plane
) -> tuple[Plane, Plane]:
    """Change F and B as little as possible (least squares) so that αF + (1 - α)B = observed."""
    rest = 1 - opacity
    residual = (observed - opacity * fg - rest * bg) / (opacity * opacity + rest * rest)
    return fg + opacity * residual, bg + rest * residual


def _weighted_box_mean(image: Plane, weight: Plane, radius: float) -> Plane:
    """The box mean of [h, w, 3] weighted by [h, w]; `radius` is a share of the longer side."""
    side = 2 * max(1, round(radius * max(weight.shape))) + 1
    parts = [channel * weight for channel in cv2.split(image)]
    *sums, mass = cv2.split(cv2.boxFilter(cv2.merge([*parts, weight]), -1, (side, side)))
    inverse = 1 / np.maximum(mass, np.float32(1e-9))
    return cv2.merge([total * inverse for total in sums]).astype(np.float32, copy=False)


def scaled_coordinates(indices: PixelIndices, size: Size, small: Size) -> tuple[Plane, Plane]:
    """Map pixels of an image of `size` to x and y [N] in its copy of size `small`.

    Pixel centres map to pixel centres, as in cv2.resize.
    """
    rows, columns = np.divmod(indices, size[1])
    x = (columns + np.float32(0.5)) * np.float32(small[1] / size[1]) - np.float32(0.5)
    y = (rows + np.float32(0.5)) * np.float32(small[0] / size[0]) - np.float32(0.5)
    return x, y


def sample_bilinear(planes: Plane, x: Plane, y: Plane) -> list[Plane]:
    """Sample [h, w, C] at N points with bilinear interpolation: one [N, 1] for each channel."""
    count = len(x)
    rows = -(-count // REMAP_ROW)
    points = np.zeros((2, rows * REMAP_ROW), np.float32)
    points[0, :count], points[1, :count] = x, y
    maps = points.reshape(2, rows, REMAP_ROW)
    values = cv2.remap(planes, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    samples = values.reshape(-1, 1, planes.shape[2])[:count]
    return [channel.astype(np.float32, copy=False) for channel in cv2.split(samples)]
