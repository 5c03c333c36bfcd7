"""Edge refinement at full size with a guided filter, on the transition pixels only.

The network sees a photo at about 400 pixels, so an enlarged edge is blurred over several pixels.
Within a small window alpha is nearly a linear function of colour (He, Sun and Tang, "Guided image
filtering", PAMI 2013). The coefficients of that function vary slowly: they are computed on a small
grid (He and Sun, "Fast guided filter", 2015) and applied to the full-size transition pixels.

Measured on composites of 1500 pixels in which the network found the subject: the gradient error
falls from 27.3 to 15.5, the error along the edge from 0.169 to 0.123. A larger grid is no better;
grey instead of colour is worse (18.7).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Alpha, Image
from worker.imaging.edge_colours import (
    blocks,
    sample_bilinear,
    scaled_coordinates,
    transition_pixels,
)
from worker.imaging.matte import full_size_alpha

WINDOW_RADIUS = 4
"""Radius of the filter's window, in grid cells."""

MIN_ENLARGEMENT = 1.5
"""Smallest enlargement that is refined. Below it, the edge is hardly wider than the photo's own."""

EPSILON = 1e-4
"""Regularisation: a window whose colour variance (colours 0..1) is below it keeps its alpha."""


def refine_alpha(image: Image, small: Image, alpha: Alpha, *, levels: bool = True) -> Image:
    """Enlarge an alpha [h, w] float32 in 0..1 to the photo's size and align its edges to the photo.

    `image` is the photo [H, W, 3] uint8 RGB and `small` its small_copy; the result is [H, W] uint8.
    `levels` as in full_size_alpha. Below MIN_ENLARGEMENT the alpha is only enlarged.
    """
    height, width = image.shape[:2]
    matte = full_size_alpha(alpha, width, height, levels=levels)
    if max(height, width) < MIN_ENLARGEMENT * max(alpha.shape):
        return matte
    band = transition_pixels(matte)
    if len(band) == 0:
        return matte
    grid = small.shape[:2]
    coarse = cv2.resize(alpha, (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    coefficients = _linear_coefficients(
        small.astype(np.float32) / np.float32(255), coarse.astype(np.float32, copy=False)
    )
    for part in blocks(band):
        pixels = band[part]
        fitted = sample_bilinear(coefficients, *scaled_coordinates(pixels, (height, width), grid))
        colours = image.reshape(-1, 3)[pixels]
        values: NDArray[np.float32] = fitted[3]
        for channel in range(3):
            values = values + fitted[channel] * np.multiply(
                colours[:, channel, None], np.float32(1 / 255), dtype=np.float32
            )
        edge = full_size_alpha(np.clip(values, 0, 1), 1, len(pixels), levels=levels)
        matte.reshape(-1)[pixels] = edge[:, 0]
    return matte


def _linear_coefficients(image: NDArray[np.float32], alpha: Alpha) -> NDArray[np.float32]:
    """For each grid cell, the three slopes and the offset of alpha as a linear function of colour.

    `image` is [h, w, 3] in 0..1, `alpha` is [h, w] in 0..1; the result is [h, w, 4], averaged over
    all windows that contain the cell (equations 19 to 21 of the 2013 paper).
    """
    mean = _box_mean(image)
    mean_alpha = _box_mean(alpha)
    covariance = _box_mean(image * alpha[..., None]) - mean * mean_alpha[..., None]
    red, green, blue = cv2.split(image)
    r, g, b = cv2.split(mean)
    rr = _box_mean(red * red) - r * r + EPSILON
    rg = _box_mean(red * green) - r * g
    rb = _box_mean(red * blue) - r * b
    gg = _box_mean(green * green) - g * g + EPSILON
    gb = _box_mean(green * blue) - g * b
    bb = _box_mean(blue * blue) - b * b + EPSILON
    # Solve each cell's symmetric 3 × 3 system by elimination. With black or grey goods on white,
    # the channels are nearly equal: the cofactors of an inverse would cancel in float32.
    c, d, e = cv2.split(covariance)
    g_of_r, b_of_r = rg / rr, rb / rr
    gg, gb = gg - g_of_r * rg, gb - g_of_r * rb
    b_of_g = gb / gg
    d = d - g_of_r * c
    blue_slope = (e - b_of_r * c - b_of_g * d) / (bb - b_of_r * rb - b_of_g * gb)
    green_slope = (d - gb * blue_slope) / gg
    slopes = [(c - rg * green_slope - rb * blue_slope) / rr, green_slope, blue_slope]
    offset = mean_alpha - slopes[0] * r - slopes[1] * g - slopes[2] * b
    return _box_mean(cv2.merge([*slopes, offset]))


def _box_mean(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    side = 2 * WINDOW_RADIUS + 1
    filtered = cv2.boxFilter(plane, -1, (side, side), borderType=cv2.BORDER_REFLECT)
    return filtered.astype(np.float32, copy=False)
