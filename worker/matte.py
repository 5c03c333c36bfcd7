"""Alpha → cut-out: the alpha at full size, clean colours at the edge, background."""

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidOptionsError
from shared.options import Foreground, Options, Output
from worker.edge_colours import Places, subject_colours, transition

Image = NDArray[np.uint8]
Alpha = NDArray[np.float32]

BLACK_POINT, WHITE_POINT = 0.04, 0.96
"""Alphas beyond them become 0 and 1: a network is seldom quite sure, and a haze of 1 % is seen on
a white page and doubles a PNG."""


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
    edge = transition(alpha)
    if options.foreground is Foreground.ESTIMATE:
        colours = subject_colours(image, alpha, edge)
    else:
        colours = image.reshape(-1, 3)[edge]
    if options.background is not None:
        if not isinstance(options.background, str):
            raise InvalidOptionsError("This worker knows no pictures and gradients as background")
        return _on_colour(image, alpha, edge, colours, options.background)
    cutout = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).astype(np.uint8, copy=False)
    cutout.reshape(-1, 4)[edge, :3] = colours
    cutout[..., 3] = alpha
    return cv2.copyTo(cutout, alpha).astype(np.uint8, copy=False)


def _on_colour(image: Image, alpha: Image, edge: Places, colours: Image, colour: str) -> Image:
    """Composite over `#rrggbb`: exactly that colour where alpha is 0, the image where it is 255,
    and the edge's colours by their share between.
    """
    value = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)], np.uint8)
    result = np.empty_like(image)
    result[:] = value
    result = cv2.copyTo(image, alpha, result).astype(np.uint8, copy=False)
    share = alpha.reshape(-1)[edge, None].astype(np.float32) / 255
    mixed = colours * share + value * (1 - share)
    result.reshape(-1, 3)[edge] = np.rint(mixed).astype(np.uint8)
    return result
