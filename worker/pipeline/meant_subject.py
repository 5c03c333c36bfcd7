"""The option `subject` on the way of an image: what the network sees of the photo, which parts of
its alpha are kept, and the way back to the whole photo.
"""

from dataclasses import replace

import numpy as np

from worker.imaging.arrays import Alpha, Image
from worker.imaging.prepared import PreparedImage
from worker.imaging.subject import (
    Shares,
    at_points,
    crop,
    fit,
    inside_box,
    neighbourhood,
    within_frame,
)
from worker.pipeline.in_flight import InFlightImage


def seen_by_network(one: InFlightImage) -> Image:
    """The photo [H, W, 3], or the neighbourhood of the subject's box."""
    assert one.decoded is not None
    image, subject = one.decoded.image, one.item.options.subject
    if subject is None or subject.box is None:
        return image
    return crop(image, neighbourhood(subject.box, image.shape[0], image.shape[1]))


def meant(one: InFlightImage, alpha: Alpha, prepared: PreparedImage) -> tuple[Alpha, float]:
    """The part of an alpha (at the network's size) that shows the subject meant, and the share of
    the option's points that agree with it (1 without points).
    """
    subject = one.item.options.subject
    if subject is None:
        return alpha, 1.0
    content = prepared.without_padding(alpha)
    agreement = 1.0
    if subject.points is not None:
        kept = at_points(content, subject.points)
        agreement = fit(content, subject.points)
    else:
        assert subject.box is not None
        kept = inside_box(content, _within_neighbourhood(one, subject.box))
    found = np.zeros_like(alpha)
    found[: kept.shape[0], : kept.shape[1]] = kept
    return found, agreement


def put_back(one: InFlightImage) -> None:
    """Turn the alpha of a box's neighbourhood into an alpha of the whole photo."""
    subject = one.item.options.subject
    if subject is None or subject.box is None:
        return
    assert one.decoded is not None
    assert one.prepared is not None
    assert one.alpha is not None
    height, width = one.decoded.image.shape[:2]
    place = neighbourhood(subject.box, height, width)
    content = one.prepared.without_padding(one.alpha)
    one.alpha = within_frame(content, place, height, width)
    one.prepared = replace(one.prepared, steps=(("resize", (height, width)),))


def _within_neighbourhood(one: InFlightImage, box: Shares) -> Shares:
    """The box as fractions of its neighbourhood."""
    assert one.decoded is not None
    height, width = one.decoded.image.shape[:2]
    left, top, right, bottom = neighbourhood(box, height, width)
    across, down = right - left, bottom - top
    return (
        max(0.0, (box[0] * width - left) / across),
        max(0.0, (box[1] * height - top) / down),
        min(1.0, (box[2] * width - left) / across),
        min(1.0, (box[3] * height - top) / down),
    )
