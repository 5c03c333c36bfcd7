"""The background of a rendition: a plain colour, a gradient or a picture."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.rendition_values import Background, BackgroundImage, LinearGradient
from worker.imaging.arrays import Image
from worker.imaging.colours import from_srgb
from worker.imaging.samples import row_blocks


def rgb(colour: str, profile: bytes | None = None) -> NDArray[np.uint8]:
    """`#rrggbb`, which is sRGB, as [3] uint8 under a profile (as in `render_background`)."""
    given = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)], np.uint8)
    return from_srgb(given.reshape(1, 1, 3), profile).reshape(3)


def render_background(
    background: Background,
    width: int,
    height: int,
    picture: Image | None,
    profile: bytes | None = None,
) -> Image:
    """Draw the background [H, W, 3] uint8 RGB. A BackgroundImage needs its decoded `picture`, in
    sRGB. `profile`: the ICC profile under which the pixels are written; None: sRGB.
    """
    if isinstance(background, LinearGradient):
        return from_srgb(_gradient(background, width, height), profile)
    if isinstance(background, BackgroundImage):
        assert picture is not None, "the pipeline reads the picture before it renders"
        return from_srgb(_resize_to_cover(picture, width, height), profile)
    result = np.empty((height, width, 3), np.uint8)
    result[:] = rgb(background, profile)
    return result


def _gradient(gradient: LinearGradient, width: int, height: int) -> Image:
    """A linear gradient as CSS defines it (CSS Images Module Level 3, 3.1)."""
    angle = math.radians(gradient.angle_deg)
    dx, dy = math.sin(angle), -math.cos(angle)
    # This length gives two opposite corners exactly the start and the end colour.
    length = abs(width * dx) + abs(height * dy)
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * (dx / length)
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) * (dy / length)
    colours = [rgb(colour).tolist() for colour in gradient.gradient]
    ends = [(int(start), int(end)) for start, end in zip(*colours, strict=True)]
    # Ordered dithering by half a level: without it, 8-bit gradients show bands.
    columns = np.arange(width) * 3
    noise = np.stack([(5 * row + columns) % 8 / 8 - 0.4375 for row in range(8)]).astype(np.float32)
    result = np.empty((height, width, 3), np.uint8)
    for part in row_blocks(height, width):  # their numbers take 20 bytes a pixel
        share = np.clip(x[None] + y[part, None] + np.float32(0.5), 0, 1)
        dither = noise[np.arange(part.start, part.stop) % 8]
        planes = {
            (start, end): cv2.convertScaleAbs(share * np.float32(end - start) + dither + start)
            for start, end in set(ends)  # of greys, one
        }
        result[part] = cv2.merge([planes[channel] for channel in ends])
    return result


def _resize_to_cover(picture: Image, width: int, height: int) -> Image:
    """Centre-crop and resize a picture to fill the frame (CSS `object-fit: cover`)."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    crop_w = min(picture.shape[1], max(1, round(width / scale)))
    crop_h = min(picture.shape[0], max(1, round(height / scale)))
    left, top = (picture.shape[1] - crop_w) // 2, (picture.shape[0] - crop_h) // 2
    middle = picture[top : top + crop_h, left : left + crop_w]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(middle, (width, height), interpolation=way).astype(np.uint8, copy=False)
