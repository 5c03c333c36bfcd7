"""Alpha → cut-out: the alpha at full size, clean colours at the edge, background."""

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.options import Foreground, Options, Output
from worker.shapes import shrink

Image = NDArray[np.uint8]
Alpha = NDArray[np.float32]

BLACK_POINT, WHITE_POINT = 0.04, 0.96
"""Alphas beyond them become 0 and 1: a network is seldom quite sure, and a haze of 1 % is seen on
a white page and doubles a PNG."""

EDGE_SIDE_PX = 480
"""Edge colours are estimated at this size: they vary slowly along an edge. At 640 it takes half as
long again and is no closer (8.1 against 8.0 grey levels on composites); at 320 it is worse."""

EDGE_RADIUS = 0.03
"""Half the window of that estimate, as a share of the longer side."""

SURENESS = 6
"""Power of alpha by which a pixel's colour counts as the subject's: half-transparent ones hold much
of the background, and count only where there are no others."""


def full_alpha(alpha: Alpha, width: int, height: int, *, levels: bool = True) -> Image:
    """An alpha [h, w] in 0..1 as [height, width] uint8, with black and white point applied unless
    `levels` is false (the `exact` profile gives what the network gave).
    """
    if alpha.shape != (height, width):
        alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR).astype(
            np.float32, copy=False
        )
    black, white = (BLACK_POINT, WHITE_POINT) if levels else (0.0, 1.0)
    scale = 255 / (white - black)
    # alpha · scale - black · scale, rounded and saturated, in one pass.
    return cv2.convertScaleAbs(
        np.maximum(alpha, np.float32(black)), alpha=scale, beta=-black * scale
    ).astype(np.uint8, copy=False)


def finish(image: Image, alpha: Image, options: Options) -> Image:
    """What is to be encoded: image [H, W, 3] uint8 RGB and alpha [H, W] uint8 become
    [H, W] (alpha alone), [H, W, 3] (on a background) or [H, W, 4] (RGBA, colours straight: not
    multiplied by alpha; fully clear pixels are 0, which makes files small).
    """
    if options.output is Output.ALPHA:
        return alpha
    if options.foreground is Foreground.ESTIMATE:
        image = clean_edges(image, alpha)
    if options.background is not None:
        return on_colour(image, alpha, options.background)
    cutout = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).astype(np.uint8, copy=False)
    cutout[..., 3] = alpha
    return cv2.copyTo(cutout, alpha).astype(np.uint8, copy=False)


def on_colour(image: Image, alpha: Image, colour: str) -> Image:
    """Composite over `#rrggbb`: exactly that colour where alpha is 0, the image where it is 255."""
    value = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)], np.uint8)
    result = np.empty_like(image)
    result[:] = value
    result = cv2.copyTo(image, alpha, result).astype(np.uint8, copy=False)
    rows, columns = np.nonzero((alpha > 0) & (alpha < 255))
    share = alpha[rows, columns, None].astype(np.float32) / 255
    mixed = image[rows, columns] * share + value * (1 - share)
    result[rows, columns] = np.rint(mixed).astype(np.uint8)
    return result


def clean_edges(image: Image, alpha: Image) -> Image:
    """The image with the subject's own colours where 0 < alpha < 255, and unchanged elsewhere.

    Blur fusion (Forte, "Approximate fast foreground colour estimation", ICIP 2021): F and B are
    means of the image weighted by alpha and 1 - alpha, and F is then moved by what is left of the
    compositing equation. Here the means are taken at a reduced size and only the pixels of the
    transition band are computed at full size, which is where the time of other tools goes.
    """
    rows, columns = np.nonzero((alpha > 0) & (alpha < 255))
    if len(rows) == 0:
        return image
    height, width = alpha.shape
    scale = min(1.0, EDGE_SIDE_PX / max(height, width))
    small = max(1, round(height * scale)), max(1, round(width * scale))
    little = shrink(image, small).astype(np.float32)
    coarse = cv2.resize(alpha, (small[1], small[0]), interpolation=cv2.INTER_AREA)
    weight = (coarse / np.float32(255))[..., None].astype(np.float32)
    side = 2 * max(2, round(EDGE_RADIUS * max(small))) + 1
    foreground = _weighted_mean(little, weight**SURENESS, side)
    background = _weighted_mean(little, (1 - weight) ** SURENESS, side)

    x = ((columns + 0.5) * (small[1] / width) - 0.5).astype(np.float32)
    y = ((rows + 0.5) * (small[0] / height) - 0.5).astype(np.float32)
    near = _sample(foreground, x, y)
    far = _sample(background, x, y)
    share = alpha[rows, columns, None].astype(np.float32) / 255
    observed = image[rows, columns].astype(np.float32)
    near += share * (observed - share * near - (1 - share) * far)
    result = image.copy()
    result[rows, columns] = np.clip(np.rint(near), 0, 255).astype(np.uint8)
    return result


def _weighted_mean(
    image: NDArray[np.float32], weight: NDArray[np.float32], side: int
) -> NDArray[np.float32]:
    """The mean of image [h, w, 3] weighted by [h, w, 1] in a box; the image where all weigh 0."""
    total = cv2.boxFilter(image * weight, -1, (side, side))
    mass = cv2.boxFilter(weight, -1, (side, side))[..., None]
    return np.where(mass > 1e-6, total / np.maximum(mass, 1e-6), image).astype(np.float32)


def _sample(
    image: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The image's values [N, 3] at N places, linearly interpolated."""
    rows: list[NDArray[np.float32]] = []
    step = 32_000  # cv2.remap takes sides up to 32,767
    for start in range(0, len(x), step):
        part = np.s_[start : start + step]
        values = cv2.remap(
            image, x[part, None], y[part, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        rows.append(values[:, 0].astype(np.float32, copy=False))
    return np.concatenate(rows)
