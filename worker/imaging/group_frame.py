"""A group's common frame applied to one photo: all results get one crop, scale and baseline."""

from dataclasses import replace

from shared.groups import GroupFrame, Measured
from shared.rendition import Rendition
from worker.imaging.arrays import Box, Image
from worker.imaging.crop_and_canvas import Placement, compute_placement
from worker.imaging.matte import subject_box


def measure_box(matte: Image) -> Measured:
    """The size of a matte [H, W] uint8 and its subject's box, as shares of its sides."""
    height, width = matte.shape
    box = subject_box(matte)
    shares = None
    if box is not None:
        shares = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
    return Measured(width=width, height=height, box=shares)


def placement_in_group(
    rendition: Rendition, width: int, height: int, frame: GroupFrame
) -> Placement:
    """Where a photo of `width` x `height` pixels lies in the result that its group shares.

    Raises OutputTooLargeError.
    """
    usual = compute_placement(rendition, frame.width, frame.height, box_of(frame))
    scale, left, top = frame.fit_of(width, height)
    if (scale, left, top) == (1.0, 0.0, 0.0):
        return usual
    crop = (
        min(max(0, round((usual.crop_box[0] - left) / scale)), width - 1),
        min(max(0, round((usual.crop_box[1] - top) / scale)), height - 1),
        min(max(1, round((usual.crop_box[2] - left) / scale)), width),
        min(max(1, round((usual.crop_box[3] - top) / scale)), height),
    )
    return replace(
        usual,
        crop_box=crop,
        scale=usual.scale * scale,
        left=round(usual.left + (crop[0] * scale + left - usual.crop_box[0]) * usual.scale),
        top=round(usual.top + (crop[1] * scale + top - usual.crop_box[1]) * usual.scale),
    )


def box_of(frame: GroupFrame) -> Box:
    """The common box in pixels of the usual photo; at least a pixel."""
    left, top, right, bottom = frame.box
    box = (
        round(left * frame.width),
        round(top * frame.height),
        round(right * frame.width),
        round(bottom * frame.height),
    )
    return (
        min(box[0], frame.width - 1),
        min(box[1], frame.height - 1),
        max(box[2], min(box[0], frame.width - 1) + 1),
        max(box[3], min(box[1], frame.height - 1) + 1),
    )


def is_held(matte_size: tuple[int, ...], box: Box | None, frame: GroupFrame) -> bool:
    """Whether a subject lies within the common frame; true without a subject. `matte_size`: height
    and width in pixels, and `box` in them.
    """
    if box is None:
        return True
    height, width = matte_size
    shares = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
    return frame.holds(width, height, shares)
