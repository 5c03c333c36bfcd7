"""The test card: a drawn photo with which every engine is checked."""

import cv2
import numpy as np

from worker.imaging.arrays import Image


def testcard() -> Image:
    """A shaded, bottle-like subject in front of a wall with a gradient: [480, 360, 3] uint8 RGB."""
    height, width = 480, 360
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wall = 170 + 50 * y / height + 10 * np.sin(x / 37)
    image = np.stack([wall, wall * 0.98, wall * 0.94], -1)
    mask = np.zeros((height, width), np.uint8)
    cv2.rectangle(mask, (158, 60), (202, 170), 255, -1)
    cv2.ellipse(mask, (180, 310), (78, 150), 0, 0, 360, 255, -1)
    light = 60 + 90 * np.clip(1 - np.abs(x - 150) / 90, 0, 1)
    subject = np.stack([light * 0.9, light * 0.35, light * 0.3], -1)
    soft = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None] / 255
    card: Image = np.clip(soft * subject + (1 - soft) * image, 0, 255).astype(np.uint8)
    return card
