"""Crop, canvas, scale and position: where the photo lies in the result."""

import math
from dataclasses import dataclass

from shared.errors import OutputTooLargeError
from shared.marketplaces import RULES
from shared.rendition import Rendition
from shared.rendition_values import Length, Shadow, lengths
from worker.imaging.arrays import Box
from worker.imaging.shadow import shadow_extent

MAX_CANVAS_PIXELS = 100_000_000
"""Largest canvas. One image must not use up a worker's memory."""


@dataclass(frozen=True)
class Placement:
    """How a photo is cropped, scaled and pasted on a canvas. All lengths are pixels."""

    width: int
    height: int
    """Width and height of the canvas."""
    crop_box: Box
    """The part of the photo that is pasted."""
    scale: float
    """Canvas pixels per photo pixel."""
    left: int
    top: int
    """Position of the crop box's top left corner on the canvas; negative when outside."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the crop box after scaling."""
        left, top, right, bottom = self.crop_box
        return (
            max(1, round((right - left) * self.scale)),
            max(1, round((bottom - top) * self.scale)),
        )


def compute_placement(
    rendition: Rendition, width: int, height: int, subject: Box | None
) -> Placement:
    """Compute crop box, canvas, scale and position for a photo of `width` x `height` pixels.

    `subject` is the subject's box; without one, the whole photo counts as the subject.
    Raises OutputTooLargeError when the canvas exceeds MAX_CANVAS_PIXELS.
    """
    whole = (0, 0, width, height)
    subject = subject or whole
    crop_box = _crop_box(subject, rendition.crop_margin, whole) if rendition.crop else whole
    cut = _cut_sides(subject, width, height) if rendition.snap else NO_SIDES
    padding = _padding(rendition, cut)
    canvas, fixed = _canvas(rendition, crop_box, subject, padding)
    if rendition.canvas is None and rendition.crop and rendition.shadow:
        canvas = _add_room_for_shadow(rendition.shadow, canvas, crop_box, subject)
    scale = 1.0
    if rendition.scale is not None:
        scale = rendition.scale * min(
            canvas[0] / (subject[2] - subject[0]), canvas[1] / (subject[3] - subject[1])
        )
    elif rendition.padding is not None:
        across, down = _room(padding, canvas)
        scale = min(across / (subject[2] - subject[0]), down / (subject[3] - subject[1]))
    elif fixed:
        scale = min(
            canvas[0] / (crop_box[2] - crop_box[0]), canvas[1] / (crop_box[3] - crop_box[1])
        )
    if not rendition.enlarge:
        scale = min(scale, 1.0)
    shrink = _downscale_factor(rendition, canvas)
    canvas = (canvas[0] * shrink, canvas[1] * shrink)
    scale *= shrink
    left, top, right, bottom = (Length(one.px * shrink, one.share) for one in padding)
    padding = (left, top, right, bottom)
    size = max(1, round(canvas[0])), max(1, round(canvas[1]))
    if size[0] * size[1] > MAX_CANVAS_PIXELS:
        raise OutputTooLargeError(f"The canvas would have {size[0]} × {size[1]} pixels")
    corner = _paste_position(
        rendition, size, crop_box, subject, scale, (width, height), padding, cut
    )
    if scale > 1:
        crop_box, corner = _visible(crop_box, corner, scale, size)
    return Placement(*size, crop_box, scale, round(corner[0]), round(corner[1]))


UNSEEN_PX = 2
"""Pixels beyond the canvas that enlarging its last ones needs."""


def _visible(
    crop_box: Box, corner: tuple[float, float], scale: float, canvas: tuple[int, int]
) -> tuple[Box, tuple[float, float]]:
    """The part of a crop box that lies on the canvas, and its corner there. A whole photo that is
    enlarged around a small subject would have billions of pixels.
    """
    sides: list[tuple[int, int]] = []
    for axis in (0, 1):
        start, end = crop_box[axis], crop_box[axis + 2]
        low = start + math.floor(-corner[axis] / scale) - UNSEEN_PX
        high = start + math.ceil((canvas[axis] - corner[axis]) / scale) + UNSEEN_PX
        low = min(max(start, low), end - 1)
        sides.append((low, max(low + 1, min(end, high))))
    (left, right), (top, bottom) = sides
    moved = (left - crop_box[0]) * scale, (top - crop_box[1]) * scale
    return (left, top, right, bottom), (corner[0] + moved[0], corner[1] + moved[1])


Sides = tuple[bool, bool, bool, bool]
"""Of left, top, right, bottom, as in a `Box`."""

NO_SIDES: Sides = (False, False, False, False)

CUT_SHARE = 0.002
"""A subject this near to a side of the photo, as a share of the photo's side, is cut off by it. The
last pixel of a matte may be fainter than the others."""

Padding = tuple[Length, Length, Length, Length]
"""Of left, top, right, bottom."""


def _cut_sides(subject: Box, width: int, height: int) -> Sides:
    """The sides of the photo that cut the subject off."""
    near_x, near_y = max(1, round(CUT_SHARE * width)), max(1, round(CUT_SHARE * height))
    return (
        subject[0] <= near_x,
        subject[1] <= near_y,
        subject[2] >= width - near_x,
        subject[3] >= height - near_y,
    )


def _padding(rendition: Rendition, cut: Sides) -> Padding:
    """The padding of each side; none where the subject is cut off."""
    top, right, bottom, left = lengths(rendition.padding or "0")
    sides = [
        Length() if is_cut else given
        for given, is_cut in zip((left, top, right, bottom), cut, strict=True)
    ]
    return sides[0], sides[1], sides[2], sides[3]


def _room(padding: Padding, canvas: tuple[float, float]) -> tuple[float, float]:
    """Width and height of a canvas without its padding, at least a pixel."""
    left, top, right, bottom = padding
    return (
        max(1.0, canvas[0] - left.of(canvas[0]) - right.of(canvas[0])),
        max(1.0, canvas[1] - top.of(canvas[1]) - bottom.of(canvas[1])),
    )


def most_pixels(rendition: Rendition, width: int, height: int) -> int:
    """The pixels of a result of a photo of this size, wherever its subject lies. A subject that
    fills the photo gives the largest canvas.
    """
    if not rendition.changes_frame:
        return width * height
    unshrunk = {"max_side_px": None, "max_megapixels": None, "snap": False}
    try:
        most = compute_placement(rendition.model_copy(update=unshrunk), width, height, None)
        pixels = most.width * most.height
    except OutputTooLargeError:
        pixels = MAX_CANVAS_PIXELS
    if rendition.max_side_px:
        pixels = min(pixels, rendition.max_side_px**2)
    if rendition.max_megapixels:
        pixels = min(pixels, round(rendition.max_megapixels * 1e6))
    return pixels


def size_without_subject(rendition: Rendition, width: int, height: int) -> tuple[int, int] | None:
    """Width and height of the result for a photo of this size, or None if they depend on where the
    subject lies. Raises OutputTooLargeError.
    """
    canvas = rendition.canvas
    by_subject = rendition.crop or rendition.scale is not None or rendition.padding is not None
    if by_subject and (canvas is None or "x" not in canvas):
        return None
    placement = compute_placement(rendition, width, height, None)
    return placement.width, placement.height


def subject_box_in_result(
    placement: Placement | None,
    subject: Box | None,
    photo: tuple[int, ...],
    picture: tuple[int, ...],
) -> Box | None:
    """Map the subject's box from the photo to the result. `placement`: of the photo there; None: it
    is only shrunk. `photo`, `picture`: (height, width).
    """
    if subject is None:
        return None
    if placement is not None:
        scale_x = scale_y = placement.scale
        left = placement.left - placement.crop_box[0] * scale_x
        top = placement.top - placement.crop_box[1] * scale_y
    else:
        left = top = 0.0
        scale_x, scale_y = picture[1] / photo[1], picture[0] / photo[0]
    return (
        min(picture[1], max(0, round(left + subject[0] * scale_x))),
        min(picture[0], max(0, round(top + subject[1] * scale_y))),
        min(picture[1], max(0, round(left + subject[2] * scale_x))),
        min(picture[0], max(0, round(top + subject[3] * scale_y))),
    )


def _crop_box(box: Box, margin: str, whole: Box) -> Box:
    """The subject's box plus margins, clipped to the photo. Margins are written as in CSS."""
    top, right, bottom, left = lengths(margin)
    width, height = box[2] - box[0], box[3] - box[1]
    return (
        max(whole[0], round(box[0] - left.of(width))),
        max(whole[1], round(box[1] - top.of(height))),
        min(whole[2], round(box[2] + right.of(width))),
        min(whole[3], round(box[3] + bottom.of(height))),
    )


def _canvas(
    rendition: Rendition, crop_box: Box, subject: Box, padding: Padding
) -> tuple[tuple[float, float], bool]:
    """Canvas width and height before any downscaling, and whether they were given: then the photo
    is scaled to them.
    """
    width, height = float(crop_box[2] - crop_box[0]), float(crop_box[3] - crop_box[1])
    if rendition.canvas is None:
        return (width, height), False
    if "x" in rendition.canvas:
        wide, high = (int(side) for side in rendition.canvas.split("x"))
        return (wide, high), True
    across, down = (float(part) for part in rendition.canvas.split(":"))
    ratio = across / down
    if rendition.scale is not None:
        # The smallest canvas on which the unscaled subject fills the requested share.
        width = (subject[2] - subject[0]) / rendition.scale
        height = (subject[3] - subject[1]) / rendition.scale
    elif rendition.padding is not None:
        # The smallest canvas on which the unscaled subject leaves this padding.
        left, top, right, bottom = padding
        width = (subject[2] - subject[0] + left.px + right.px) / (1 - left.share - right.share)
        height = (subject[3] - subject[1] + top.px + bottom.px) / (1 - top.share - bottom.share)
    canvas = max(width, height * ratio), max(height, width / ratio)
    growth = _growth(rendition, canvas)
    return (canvas[0] * growth, canvas[1] * growth), growth > 1


def _growth(rendition: Rendition, canvas: tuple[float, float]) -> float:
    """The factor by which the canvas grows so that the marketplace accepts its size, at least 1."""
    if not rendition.enlarge or rendition.market is None:
        return 1.0
    rules = RULES[rendition.market]
    return max(
        1.0,
        (rules.min_longest_px or 0) / max(canvas),
        (rules.min_width_px or 0) / canvas[0],
        (rules.min_height_px or 0) / canvas[1],
    )


def _add_room_for_shadow(
    shadow: Shadow, canvas: tuple[float, float], crop_box: Box, subject: Box
) -> tuple[float, float]:
    """Enlarge the canvas so that it does not cut off the shadow. Opposite sides grow equally."""
    reach = shadow_extent(shadow, max(subject[2] - subject[0], subject[3] - subject[1]))
    margin = [min(subject[n] - crop_box[n], crop_box[n + 2] - subject[n + 2]) for n in (0, 1)]
    lacking = [max(0.0, needed - there) for needed, there in zip(reach, margin, strict=True)]
    return canvas[0] + 2 * lacking[0], canvas[1] + 2 * lacking[1]


def _downscale_factor(rendition: Rendition, canvas: tuple[float, float]) -> float:
    shrink = 1.0
    if rendition.max_side_px:
        shrink = min(shrink, rendition.max_side_px / max(canvas))
    if rendition.max_megapixels:
        shrink = min(shrink, (rendition.max_megapixels * 1e6 / (canvas[0] * canvas[1])) ** 0.5)
    return shrink


def _paste_position(
    rendition: Rendition,
    canvas: tuple[int, int],
    crop_box: Box,
    subject: Box,
    scale: float,
    photo: tuple[int, int],
    padding: Padding,
    cut: Sides,
) -> tuple[float, float]:
    """Position of the crop box's corner on the canvas that puts the subject where it belongs."""
    position = rendition.position
    if position is None:
        sized = rendition.scale is not None or rendition.padding is not None
        position = "center" if sized else None
    corner: list[float] = []
    for axis in (0, 1):
        low, high = subject[axis], subject[axis + 2]
        if cut[axis] != cut[axis + 2]:  # at one side: the subject stays there
            there = 0.0 if cut[axis] else canvas[axis] - (high - low) * scale
            corner.append(there - (low - crop_box[axis]) * scale)
            continue
        if position is None:  # centre the crop box
            size = (crop_box[axis + 2] - crop_box[axis]) * scale
            corner.append((canvas[axis] - size) / 2)
            continue
        before = padding[axis].of(canvas[axis])
        room = canvas[axis] - before - padding[axis + 2].of(canvas[axis]) - (high - low) * scale
        if position == "center":
            share = 0.5
        elif position == "original":
            spare = photo[axis] - (high - low)
            share = low / spare if spare else 0.5
        else:
            shares = position.replace("%", "").split()
            share = float(shares[min(axis, len(shares) - 1)]) / 100
        corner.append(before + share * room - (low - crop_box[axis]) * scale)
    return corner[0], corner[1]
