"""Edge colours: the subject's own colours where it is half transparent, with no halo of the wall.

Blur fusion (Forte, "Approximate fast foreground colour estimation", ICIP 2021) with three changes,
each measured (tests/benchmarks/edges): the means are taken at a reduced size and only the
transition band is computed at full size, which is where other tools spend their time; what a pair
of means leaves of the equation I = αF + (1 - α)B goes to both by least squares; and a second pass
in a smaller window brings back the texture that the first one lost.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Image, Plane, Size
from worker.imaging.resample import shrink

Places = NDArray[np.int64]
"""Pixels of an image, as indices into its rows laid one after the other."""

EDGE_SIDE_PX = 256
"""The means are taken at this size of the longer side. At 400 the error is 5 % less, and the time
twice as much."""

WIDE, NARROW = 0.06, 0.015
"""Half the windows of the first and the second pass, as a share of the longer side."""

SURENESS = 6
"""Power of alpha by which a pixel's colour counts in the first pass: half-transparent ones hold
much of the background, and count only where there are no others."""

SUBJECT_WEIGHT = (((np.arange(256) / 255) ** SURENESS) + 1e-6).astype(np.float32)
BACKGROUND_WEIGHT = SUBJECT_WEIGHT[::-1].copy()
"""Of a pixel, by its alpha 0..255; never quite 0, so that every window has a mean."""

LEAST_WEIGHT = np.float32(1e-4)
"""The same for the second pass."""

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
    alpha [H, W] uint8. Where there is no sure subject near by, about the image's own colour.
    """
    if len(places) == 0:
        return np.empty((0, 3), np.uint8)
    height, width = alpha.shape
    scale = min(1.0, EDGE_SIDE_PX / max(height, width))
    small = max(1, round(height * scale)), max(1, round(width * scale))
    near, far = _both_sides(shrink(image, small).astype(np.float32), shrink(alpha, small))

    x, y = coordinates(places, (height, width), small)
    share = alpha.reshape(-1)[places].astype(np.float32)[:, None] / np.float32(255)
    channels = [
        cv2.convertScaleAbs(np.maximum(_corrected(seen, share, subject, wall)[0], 0))
        for seen, subject, wall in zip(
            cv2.split(image.reshape(-1, 1, 3)[places]),
            sample(near, x, y),
            sample(far, x, y),
            strict=True,
        )
    ]
    colours: Image = cv2.merge(channels).reshape(-1, 3).astype(np.uint8, copy=False)
    return colours


def _both_sides(image: Plane, alpha: Image) -> tuple[Plane, Plane]:
    """The subject's and the background's colours [h, w, 3] everywhere, from both passes."""
    share: Plane = cv2.merge([alpha] * 3).astype(np.float32) / np.float32(255)
    near = _mean(image, SUBJECT_WEIGHT[alpha], WIDE)
    far = _mean(image, BACKGROUND_WEIGHT[alpha], WIDE)
    near, far = (np.clip(side, 0, 255) for side in _corrected(image, share, near, far))
    weight = share[..., 0] + LEAST_WEIGHT
    return _mean(near, weight, NARROW), _mean(far, 1 + 2 * LEAST_WEIGHT - weight, NARROW)


def _corrected(seen: NDArray[Any], share: Plane, near: Plane, far: Plane) -> tuple[Plane, Plane]:
    """F and B moved by the least that makes αF + (1 - α)B what is seen."""
    rest = 1 - share
    left = (seen - share * near - rest * far) / (share * share + rest * rest)
    return near + share * left, far + rest * left


def _mean(image: Plane, weight: Plane, radius: float) -> Plane:
    """The mean of [h, w, 3] weighted by [h, w] in a box; `radius` by the longer side."""
    side = 2 * max(1, round(radius * max(weight.shape))) + 1
    parts = [channel * weight for channel in cv2.split(image)]
    *sums, mass = cv2.split(cv2.boxFilter(cv2.merge([*parts, weight]), -1, (side, side)))
    inverse = 1 / np.maximum(mass, np.float32(1e-9))
    return cv2.merge([total * inverse for total in sums]).astype(np.float32, copy=False)


def coordinates(places: Places, size: Size, small: Size) -> tuple[Plane, Plane]:
    """X and y [N] in a picture of the size `small` of pixels of one of `size`, centres on centres
    as cv2.resize has them.
    """
    rows, columns = np.divmod(places, size[1])
    x = (columns + np.float32(0.5)) * np.float32(small[1] / size[1]) - np.float32(0.5)
    y = (rows + np.float32(0.5)) * np.float32(small[0] / size[0]) - np.float32(0.5)
    return x, y


def sample(planes: Plane, x: Plane, y: Plane) -> list[Plane]:
    """The C channels of [h, w, C] at N places, linearly interpolated: C × [N, 1]."""
    count = len(x)
    rows = -(-count // SAMPLE_ROW)
    where = np.zeros((2, rows * SAMPLE_ROW), np.float32)
    where[0, :count], where[1, :count] = x, y
    maps = where.reshape(2, rows, SAMPLE_ROW)
    values = cv2.remap(planes, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    whole = values.reshape(-1, 1, planes.shape[2])[:count]
    return [channel.astype(np.float32, copy=False) for channel in cv2.split(whole)]
