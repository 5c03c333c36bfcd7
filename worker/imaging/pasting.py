"""Pasting a photo and its matte on a canvas, and resizing them for it."""

from typing import NamedTuple

import cv2
import numpy as np

from worker.imaging.arrays import Box, Image
from worker.imaging.crop_and_canvas import Placement
from worker.imaging.edge_colours import PixelIndices, blocks


class Edge(NamedTuple):
    """Colours of some pixels of an image, which take the place of the image's own."""

    pixels: PixelIndices
    """[N]: flat indices in the image."""
    colours: Image
    """[N, 3] RGB."""


def paste(
    placement: Placement, image: Image, matte: Image, edge: Edge | None = None
) -> tuple[Image, Image]:
    """Paste colours [H, W, 3] and matte [H, W], both uint8, on a canvas that is 0 elsewhere.
    `edge`: colours that take the place of the image's.

    Resampling weights colours by alpha: no colour of the old background enters the subject.
    """
    left, top, right, bottom = placement.crop_box
    if edge is not None:
        edge = _inside(edge, image, placement.crop_box)
    image, matte = image[top:bottom, left:right], matte[top:bottom, left:right]
    colours = np.zeros((placement.height, placement.width, 3), np.uint8)
    alpha = np.zeros((placement.height, placement.width), np.uint8)
    width, height = placement.size
    source_y, target_y = _overlap(placement.top, height, placement.height)
    source_x, target_x = _overlap(placement.left, width, placement.width)
    source, target = (source_y, source_x), (target_y, target_x)
    resampled = None
    if (height, width) != matte.shape:
        resampled = Resampled(matte, placement.size)
    for channel in range(3):  # one after the other takes half the memory
        plane = _plane(image, channel, edge)
        if resampled is not None:
            plane = resampled.plane(plane)
        colours[(*target, channel)] = plane[source]
    alpha[target] = (matte if resampled is None else resampled.alpha)[source]
    return colours, alpha


def _inside(edge: Edge, image: Image, box: Box) -> Edge:
    """The edge pixels of an image within a box, by their indices in the box."""
    left, top, right, bottom = box
    if (top, left, bottom, right) == (0, 0, *image.shape[:2]):
        return edge
    pixels, colours = [np.empty(0, np.int64)], [np.empty((0, 3), np.uint8)]
    for part in blocks(edge.pixels):
        rows, columns = np.divmod(edge.pixels[part], image.shape[1])
        inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
        pixels.append((rows[inside] - top) * (right - left) + (columns[inside] - left))
        colours.append(edge.colours[part][inside])
    return Edge(np.concatenate(pixels), np.concatenate(colours))


def _plane(image: Image, channel: int, edge: Edge | None) -> Image:
    """A copy of one channel [H, W] of an image, with the colours of its edge."""
    plane = np.ascontiguousarray(cv2.extractChannel(image, channel)).astype(np.uint8, copy=False)
    if edge is not None:
        plane.reshape(-1)[edge.pixels] = edge.colours[:, channel]
    return plane


def paste_matte(placement: Placement, matte: Image) -> Image:
    """Paste a matte [H, W] uint8 alone on the canvas."""
    left, top, right, bottom = placement.crop_box
    matte = matte[top:bottom, left:right]
    if placement.size != (matte.shape[1], matte.shape[0]):
        smaller = placement.size[0] < matte.shape[1] or placement.size[1] < matte.shape[0]
        way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        matte = cv2.resize(matte, placement.size, interpolation=way).astype(np.uint8, copy=False)
    alpha = np.zeros((placement.height, placement.width), np.uint8)
    source_y, target_y = _overlap(placement.top, matte.shape[0], placement.height)
    source_x, target_x = _overlap(placement.left, matte.shape[1], placement.width)
    alpha[target_y, target_x] = matte[source_y, source_x]
    return alpha


def _overlap(start: int, length: int, limit: int) -> tuple[slice, slice]:
    """The visible range of one axis: as a slice of the pasted image and of the canvas."""
    first, last = max(0, start), max(0, min(limit, start + length))
    last = max(first, last)
    return slice(first - start, last - start), slice(first, last)


class Resampled:
    """A matte [H, W] uint8 resized to (width, height), and planes of colours that it weights."""

    def __init__(self, matte: Image, size: tuple[int, int]) -> None:
        self._matte, self._size = matte, size
        smaller = size[0] < matte.shape[1] or size[1] < matte.shape[0]
        self._way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        # A product of two bytes fits into 16 bits, so the weighting needs no float copy.
        weight = np.multiply(matte, np.uint16(255), dtype=np.uint16)
        weight = cv2.resize(weight, size, interpolation=self._way).astype(np.uint16, copy=False)
        self.alpha: Image = cv2.convertScaleAbs(weight, alpha=1 / 255).astype(np.uint8, copy=False)
        self._weight = np.maximum(weight, 1, out=weight)

    def plane(self, plane: Image) -> Image:
        """A channel [H, W] uint8, resized."""
        product = cv2.multiply(plane, self._matte, dtype=cv2.CV_16U)
        del plane
        product = cv2.resize(product, self._size, interpolation=self._way)
        colours: Image = cv2.divide(product, self._weight, scale=255, dtype=cv2.CV_8U).astype(
            np.uint8, copy=False
        )
        return colours
