"""Where the subject goes: crop, canvas, scale and position as one placement of the photo."""

from dataclasses import dataclass

import cv2
import numpy as np

from shared.errors import InvalidOptionsError
from shared.rendition import Rendition, Shadow
from worker.imaging.arrays import Box, Image
from worker.imaging.backdrop import shadow_reach

MAX_CANVAS_PIXELS = 100_000_000
"""A canvas that would need more is refused: one picture must not take a worker's memory."""


@dataclass(frozen=True)
class Placement:
    """A window of the photo, scaled and put on a canvas. Pixels throughout."""

    width: int
    height: int
    """Of the canvas."""
    window: Box
    """Of the photo."""
    scale: float
    """Canvas pixels for one of the photo."""
    left: int
    top: int
    """Where the window's corner lies on the canvas; may be outside."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the window on the canvas."""
        left, top, right, bottom = self.window
        return (
            max(1, round((right - left) * self.scale)),
            max(1, round((bottom - top) * self.scale)),
        )


def place(rendition: Rendition, width: int, height: int, subject: Box | None) -> Placement:
    """Lay out a photo of this size whose subject has this box (None: it has no subject, and the
    whole photo stands for it). Raises InvalidOptionsError for a canvas beyond all limits.
    """
    whole = (0, 0, width, height)
    subject = subject or whole
    window = _with_margin(subject, rendition.crop_margin, whole) if rendition.crop else whole
    canvas, fixed = _canvas(rendition, window, subject)
    if rendition.canvas is None and rendition.crop and rendition.shadow:
        canvas = _with_room(rendition.shadow, canvas, window, subject)
    scale = 1.0
    if rendition.scale is not None:
        scale = rendition.scale * min(
            canvas[0] / (subject[2] - subject[0]), canvas[1] / (subject[3] - subject[1])
        )
    elif fixed:
        scale = min(canvas[0] / (window[2] - window[0]), canvas[1] / (window[3] - window[1]))
    if not rendition.enlarge:
        scale = min(scale, 1.0)
    shrink = _shrinkage(rendition, canvas)
    canvas = (canvas[0] * shrink, canvas[1] * shrink)
    scale *= shrink
    size = max(1, round(canvas[0])), max(1, round(canvas[1]))
    if size[0] * size[1] > MAX_CANVAS_PIXELS:
        raise InvalidOptionsError(f"The canvas would have {size[0]} × {size[1]} pixels")
    left, top = _corner(rendition, size, window, subject, scale, (width, height))
    return Placement(*size, window, scale, round(left), round(top))


def box_within(
    rendition: Rendition,
    subject: Box | None,
    photo: tuple[int, ...],
    picture: tuple[int, ...],
) -> Box | None:
    """Where the subject's box lies in a finished picture. `photo`, `picture`: [height, width]."""
    if subject is None:
        return None
    if rendition.changes_frame:
        placement = place(rendition, photo[1], photo[0], subject)
        scale_x = scale_y = placement.scale
        left = placement.left - placement.window[0] * scale_x
        top = placement.top - placement.window[1] * scale_y
    else:
        left = top = 0.0
        scale_x, scale_y = picture[1] / photo[1], picture[0] / photo[0]
    return (
        min(picture[1], max(0, round(left + subject[0] * scale_x))),
        min(picture[0], max(0, round(top + subject[1] * scale_y))),
        min(picture[1], max(0, round(left + subject[2] * scale_x))),
        min(picture[0], max(0, round(top + subject[3] * scale_y))),
    )


def _with_margin(box: Box, margin: str, whole: Box) -> Box:
    """The box widened by CSS-like margins, within the photo."""
    given = margin.split()
    top, right, bottom, left = {
        1: lambda a: (a[0], a[0], a[0], a[0]),
        2: lambda a: (a[0], a[1], a[0], a[1]),
        3: lambda a: (a[0], a[1], a[2], a[1]),
        4: lambda a: (a[0], a[1], a[2], a[3]),
    }[len(given)](given)
    width, height = box[2] - box[0], box[3] - box[1]
    return (
        max(whole[0], round(box[0] - _length(left, width))),
        max(whole[1], round(box[1] - _length(top, height))),
        min(whole[2], round(box[2] + _length(right, width))),
        min(whole[3], round(box[3] + _length(bottom, height))),
    )


def _length(text: str, of: float) -> float:
    if text.endswith("%"):
        return float(text[:-1]) / 100 * of
    return float(text.removesuffix("px"))


def _canvas(rendition: Rendition, window: Box, subject: Box) -> tuple[tuple[float, float], bool]:
    """Width and height before shrinking, and whether they were given in pixels."""
    width, height = float(window[2] - window[0]), float(window[3] - window[1])
    if rendition.canvas is None:
        return (width, height), False
    if "x" in rendition.canvas:
        wide, high = (int(side) for side in rendition.canvas.split("x"))
        return (wide, high), True
    across, down = (float(part) for part in rendition.canvas.split(":"))
    ratio = across / down
    if rendition.scale is not None:
        # The smallest frame in which the subject, at its own size, has the share asked for.
        width = (subject[2] - subject[0]) / rendition.scale
        height = (subject[3] - subject[1]) / rendition.scale
    return (max(width, height * ratio), max(height, width / ratio)), False


def _with_room(
    shadow: Shadow, canvas: tuple[float, float], window: Box, subject: Box
) -> tuple[float, float]:
    """A crop as much larger as its shadow needs, on both sides alike: none ends in a hard line."""
    reach = shadow_reach(shadow, max(subject[2] - subject[0], subject[3] - subject[1]))
    margin = [min(subject[n] - window[n], window[n + 2] - subject[n + 2]) for n in (0, 1)]
    lacking = [max(0.0, needed - there) for needed, there in zip(reach, margin, strict=True)]
    return canvas[0] + 2 * lacking[0], canvas[1] + 2 * lacking[1]


def _shrinkage(rendition: Rendition, canvas: tuple[float, float]) -> float:
    shrink = 1.0
    if rendition.max_side_px:
        shrink = min(shrink, rendition.max_side_px / max(canvas))
    if rendition.max_megapixels:
        shrink = min(shrink, (rendition.max_megapixels * 1e6 / (canvas[0] * canvas[1])) ** 0.5)
    return shrink


def _corner(
    rendition: Rendition,
    canvas: tuple[int, int],
    window: Box,
    subject: Box,
    scale: float,
    photo: tuple[int, int],
) -> tuple[float, float]:
    """Where the window's corner goes, so that the subject comes to its position."""
    position = rendition.position
    if position is None:
        position = "center" if rendition.scale is not None else None
    corner: list[float] = []
    for axis in (0, 1):
        low, high = subject[axis], subject[axis + 2]
        if position is None:  # the window's middle in the canvas's
            size = (window[axis + 2] - window[axis]) * scale
            corner.append((canvas[axis] - size) / 2)
            continue
        room = canvas[axis] - (high - low) * scale
        if position == "center":
            share = 0.5
        elif position == "original":
            spare = photo[axis] - (high - low)
            share = low / spare if spare else 0.5
        else:
            shares = position.replace("%", "").split()
            share = float(shares[min(axis, len(shares) - 1)]) / 100
        corner.append(share * room - (low - window[axis]) * scale)
    return corner[0], corner[1]


def put(placement: Placement, image: Image, matte: Image) -> tuple[Image, Image]:
    """Colours [H, W, 3] and matte [H, W], both uint8, on the canvas; where the photo doesn't reach,
    both are 0. Colours are resized weighted by alpha, so that none of the old background comes in.
    """
    left, top, right, bottom = placement.window
    image, matte = image[top:bottom, left:right], matte[top:bottom, left:right]
    if placement.size != (matte.shape[1], matte.shape[0]):
        image, matte = _resized(image, matte, placement.size)
    colours = np.zeros((placement.height, placement.width, 3), np.uint8)
    alpha = np.zeros((placement.height, placement.width), np.uint8)
    source_y, target_y = _overlap(placement.top, matte.shape[0], placement.height)
    source_x, target_x = _overlap(placement.left, matte.shape[1], placement.width)
    colours[target_y, target_x] = image[source_y, source_x]
    alpha[target_y, target_x] = matte[source_y, source_x]
    return colours, alpha


def put_matte(placement: Placement, matte: Image) -> Image:
    """The matte alone on the canvas."""
    left, top, right, bottom = placement.window
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
    """The part of a side that is seen, in its own pixels and in the canvas's."""
    first, last = max(0, start), max(0, min(limit, start + length))
    last = max(first, last)
    return slice(first - start, last - start), slice(first, last)


def _resized(image: Image, matte: Image, size: tuple[int, int]) -> tuple[Image, Image]:
    smaller = size[0] < matte.shape[1] or size[1] < matte.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    # Products of two bytes fit 16 bits exactly: colours are weighted without a float copy.
    weighted = cv2.multiply(image, cv2.merge([matte] * 3), dtype=cv2.CV_16U)
    weight = cv2.multiply(matte, np.full_like(matte, 255), dtype=cv2.CV_16U)
    weighted = cv2.resize(weighted, size, interpolation=way)
    weight = cv2.resize(weight, size, interpolation=way)
    result = cv2.divide(
        weighted, cv2.merge([np.maximum(weight, 1)] * 3), scale=255, dtype=cv2.CV_8U
    )
    alpha = cv2.convertScaleAbs(weight, alpha=1 / 255)
    return result.astype(np.uint8, copy=False), alpha.astype(np.uint8, copy=False)
