"""Edge colours: the subject's own colours where it is half transparent, with no halo of the wall.

Blur fusion (Forte, "Approximate fast foreground colour estimation", ICIP 2021): F and B are means
of the image weighted by alpha and 1 - alpha, and F is then moved by what is left of the equation
I = αF + (1 - α)B. Other tools do it on all pixels, which is where their time goes; here the means
are taken at a reduced size, and only the transition band is computed at full size.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.shapes import shrink
from worker.transforms import Size

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Places = NDArray[np.int64]
"""Pixels of an image, as indices into its rows laid one after the other."""

EDGE_SIDE_PX = 480
"""The means are taken at this size: they vary slowly along an edge. At 640 it takes half as long
again and is no closer (8.1 against 8.0 grey levels on composites); at 320 it is worse."""

EDGE_RADIUS = 0.03
"""Half the window of the means, as a share of the longer side."""

SURENESS = 6
"""Power of alpha by which a pixel's colour counts as the subject's: half-transparent ones hold much
of the background, and count only where there are no others."""

SUBJECT_WEIGHT = ((np.arange(256) / 255) ** SURENESS).astype(np.float32)
BACKGROUND_WEIGHT = SUBJECT_WEIGHT[::-1].copy()
"""Of a pixel, by its alpha 0..255."""

NO_WEIGHT = np.float32(1e-3)
"""A window that weighs less knows nothing of the colour (a weight of 255 is one sure pixel)."""

SAMPLE_ROW = 1_024
"""Samples are taken in rows of this many: cv2.remap takes sides up to 32,767."""


def transition(alpha: Image) -> Places:
    """The pixels of an alpha [H, W] uint8 where 0 < alpha < 255: [N]."""
    # OpenCV's stubs do not know that nothing found is None.
    found: NDArray[np.int32] | None = cv2.findNonZero(cv2.inRange(alpha, 1, 254))  # type: ignore
    if found is None:
        return np.empty(0, np.int64)
    columns, rows = found[:, 0, 0], found[:, 0, 1]
    places: Places = rows.astype(np.int64) * alpha.shape[1] + columns
    return places


def subject_colours(image: Image, alpha: Image, places: Places) -> Image:
    """The subject's colours [N, 3] uint8 RGB at N places of an image [H, W, 3] uint8 RGB with an
    alpha [H, W] uint8. Where nothing is known of the subject near by, the image's own colour.
    """
    if len(places) == 0:
        return np.empty((0, 3), np.uint8)
    height, width = alpha.shape
    scale = min(1.0, EDGE_SIDE_PX / max(height, width))
    small = max(1, round(height * scale)), max(1, round(width * scale))
    # A fourth channel of 255: its weighted sum is the sum of the weights.
    little = cv2.cvtColor(shrink(image, small), cv2.COLOR_RGB2RGBA).astype(np.float32)
    coarse = shrink(alpha, small)
    x, y = coordinates(places, (height, width), small)
    near = _window_sums(little, coarse, SUBJECT_WEIGHT, x, y)
    far = _window_sums(little, coarse, BACKGROUND_WEIGHT, x, y)

    observed = image.reshape(-1, 3)[places]
    share = alpha.reshape(-1)[places].astype(np.float32)[:, None] / np.float32(255)
    # F + α(I - αF - (1 - α)B), with F and B as sums over their weights.
    of_near = 255 * (1 - share * share) / np.maximum(near[3], NO_WEIGHT)
    of_far = 255 * (share * share - share) / np.maximum(far[3], NO_WEIGHT)
    channels = [
        cv2.convertScaleAbs(np.maximum(near[c] * of_near + far[c] * of_far + share * seen, 0))
        for c, seen in enumerate(cv2.split(observed[:, None]))
    ]
    colours: Image = cv2.merge(channels).reshape(-1, 3).astype(np.uint8, copy=False)
    unknown = (near[3] < NO_WEIGHT).ravel()
    if unknown.any():
        colours[unknown] = observed[unknown]
    return colours


def _window_sums(
    image: Floats, alpha: Image, weight_of: Floats, x: Floats, y: Floats
) -> list[Floats]:
    """At each place, the weighted means of the four channels in a window: 4 × [N, 1]."""
    side = 2 * max(2, round(EDGE_RADIUS * max(alpha.shape))) + 1
    weight = cv2.LUT(alpha, weight_of)[..., None]
    return sample(cv2.boxFilter(image * weight, -1, (side, side)).astype(np.float32), x, y)


def coordinates(places: Places, size: Size, small: Size) -> tuple[Floats, Floats]:
    """X and y [N] in a picture of the size `small` of pixels of one of `size`, centres on centres
    as cv2.resize has them.
    """
    rows, columns = np.divmod(places, size[1])
    x = (columns + np.float32(0.5)) * np.float32(small[1] / size[1]) - np.float32(0.5)
    y = (rows + np.float32(0.5)) * np.float32(small[0] / size[0]) - np.float32(0.5)
    return x, y


def sample(planes: Floats, x: Floats, y: Floats) -> list[Floats]:
    """The four channels of [h, w, 4] at N places, linearly interpolated: 4 × [N, 1]."""
    count = len(x)
    rows = -(-count // SAMPLE_ROW)
    where = np.zeros((2, rows * SAMPLE_ROW), np.float32)
    where[0, :count], where[1, :count] = x, y
    maps = where.reshape(2, rows, SAMPLE_ROW)
    sampled = cv2.remap(
        planes, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).reshape(-1, 1, 4)[:count]
    return [channel.astype(np.float32, copy=False) for channel in cv2.split(sampled)]
