"""Fast downscaling of images."""

import cv2
import numpy as np

from worker.imaging.arrays import Image, Size


def shrink(image: Image, size: Size) -> Image:
    """Downscale an image [H, W] or [H, W, 3] uint8 to (height, width), fast and without aliasing.

    INTER_AREA takes 20 times as long as INTER_LINEAR, except for a scale of exactly 1/2, where it
    averages 2 × 2 blocks. So the image is halved as often as possible, and one linear step does the
    rest.
    """
    while image.shape[0] >= 2 * size[0] and image.shape[1] >= 2 * size[1]:
        half = image.shape[1] // 2, image.shape[0] // 2
        image = cv2.resize(
            image[: half[1] * 2, : half[0] * 2], half, interpolation=cv2.INTER_AREA
        ).astype(np.uint8, copy=False)
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR).astype(
        np.uint8, copy=False
    )
