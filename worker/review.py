"""Signs of trouble, measured on every matte: what a person should look at before it is published.

All of it is worked out at half the network's resolution, from what is in memory anyway; the
mirrored photo is only asked about where something else hints at trouble.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.jobs import Reason
from shared.settings import Settings
from worker.transforms import Prepared

Plane = NDArray[np.float32]

SURE, UNSURE = 0.9, 0.1
"""Alphas above and below which a pixel counts as decided."""

WINDOW_PX = 9
"""Half the window in which the two sides of the edge are compared, at half resolution."""

NOTICEABLE = 0.12
"""Two tones closer than this (of 2, the range of a normalised channel) are hard to tell apart."""

HINT = 0.6
"""A sign that comes to this share of its threshold is worth a second look at the mirrored photo."""

DOUBTFUL = frozenset({Reason.EMPTY, Reason.FULL, Reason.PARTS, Reason.SOFT, Reason.LOW_CONTRAST})
"""Signs of a matte that may be wrong. The others are as true of the mirrored photo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What was measured on one matte; shares are 0..1."""

    coverage: float
    """Of the photo, that is subject."""
    cut: float
    """Of the photo's frame, that runs through the subject."""
    parts: int
    """Connected parts of at least 1 % of the largest."""
    soft: float
    """Half-transparent pixels, against the subject's."""
    hidden: float
    """Of the edge, where both sides have nearly the same colour."""
    sharpness: float
    """Standard deviation of the Laplacian within the subject; in levels of 255."""
    side_px: int
    """The shorter one of the photo."""
    disagreement: float | None = None
    """Between the photo's matte and the mirrored one's, against the subject's size."""


def measure(alpha: Plane, prepared: Prepared, side_px: int) -> Signs:
    """Measure an alpha [h, w] in 0..1 of the network, on its own input; `side_px`: the shorter side
    of the photo.
    """
    alpha, tensor = _content(alpha, prepared)
    little = np.ascontiguousarray(tensor[:, ::2, ::2].transpose(1, 2, 0))
    alpha = np.ascontiguousarray(alpha[::2, ::2])
    solid = (alpha > 0.5).astype(np.uint8)
    area = float(alpha.sum())
    undecided = (alpha > UNSURE) & (alpha < SURE)
    frame = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    return Signs(
        coverage=float(solid.mean()),
        cut=float(frame.mean()),
        parts=_parts(solid),
        soft=float(undecided.sum()) / max(area, 1.0),
        hidden=_hidden(little, alpha, solid),
        sharpness=_sharpness(little, solid),
        side_px=side_px,
    )


class Seen(NamedTuple):
    """A matte and what it was made from."""

    alpha: Plane
    prepared: Prepared
    side_px: int
    """The shorter side of the photo."""


def review_many(
    seen: Sequence[Seen],
    predict_many: Callable[[list[Prepared]], Sequence[Plane | MattingError]],
    settings: Settings,
) -> list[list[Reason]]:
    """For each, why a person should look at it; where there are hints, the mirrored photos are
    asked about in one call.
    """
    signs = [measure(*one) for one in seen]
    doubtful = [index for index, found in enumerate(signs) if hints(found, settings)]
    if doubtful:
        again = predict_many([mirrored(seen[index].prepared) for index in doubtful])
        for index, other in zip(doubtful, again, strict=True):
            if not isinstance(other, MattingError):
                apart = disagreement(seen[index].alpha, other, seen[index].prepared)
                signs[index] = replace(signs[index], disagreement=apart)
    return [reasons(found, settings) for found in signs]


def hints(signs: Signs, settings: Settings) -> bool:
    """Whether the mirrored photo is worth the network's time: there is a sign that it can confirm,
    and none yet that marks the image anyway.
    """
    near = reasons(signs, settings, share=HINT)
    return not reasons(signs, settings) and not DOUBTFUL.isdisjoint(near)


def mirrored(prepared: Prepared) -> Prepared:
    """The same input, left and right exchanged."""
    return replace(prepared, tensor=np.ascontiguousarray(prepared.tensor[:, :, ::-1]))


def disagreement(alpha: Plane, of_mirrored: Plane, prepared: Prepared) -> float:
    """How far the alpha is from that of the mirrored photo, against the subject's size."""
    first, _ = _content(alpha, prepared)
    second, _ = _content(of_mirrored[:, ::-1], prepared)
    size = max(float(first.sum()), float(second.sum()), 0.002 * first.size)
    return float(np.abs(first - second).sum()) / size


def reasons(signs: Signs, settings: Settings, *, share: float = 1.0) -> list[Reason]:
    """What is beyond its threshold; with `share`, beyond that part of it."""
    s = settings
    if signs.coverage < s.review_empty_share / share:
        return [Reason.EMPTY]
    found = {
        Reason.FULL: signs.coverage > 1 - (1 - s.review_full_share) / share,
        Reason.CUT: signs.cut > s.review_cut_share * share,
        Reason.PARTS: signs.parts > s.review_parts * share,
        Reason.SOFT: signs.soft > s.review_soft_share * share,
        Reason.LOW_CONTRAST: signs.hidden > s.review_hidden_share * share,
        Reason.BLURRED: signs.sharpness < s.review_sharpness / share,
        Reason.SMALL: share == 1 and signs.side_px < s.review_side_px,
        Reason.UNSURE: (signs.disagreement or 0) > s.review_disagreement,
    }
    return [reason for reason, true in found.items() if true]


def _content(alpha: Plane, prepared: Prepared) -> tuple[Plane, Plane]:
    """Alpha [h, w] and tensor [3, h, w] without the padding."""
    tensor = prepared.tensor
    if prepared.steps and prepared.steps[-1][0] == "padding":
        height, width = prepared.steps[-1][1]
        return alpha[:height, :width], tensor[:, :height, :width]
    return alpha, tensor


def _parts(solid: NDArray[np.uint8]) -> int:
    count, _, stats, _ = cv2.connectedComponentsWithStats(solid)
    if count < 2:
        return 0
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas >= 0.01 * areas.max()).sum())


def _hidden(image: Plane, alpha: Plane, solid: NDArray[np.uint8]) -> float:
    """Of the edge, the share where the mean colours of its two sides are hardly different."""
    edge = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if not edge.any():
        return 0.0
    side = (2 * WINDOW_PX + 1, 2 * WINDOW_PX + 1)
    inside, outside = (alpha > SURE).astype(np.float32), (alpha < UNSURE).astype(np.float32)
    mass_in, mass_out = cv2.boxFilter(inside, -1, side), cv2.boxFilter(outside, -1, side)
    mean_in = cv2.boxFilter(image * inside[..., None], -1, side)
    mean_out = cv2.boxFilter(image * outside[..., None], -1, side)
    known = edge & (mass_in > 1e-3) & (mass_out > 1e-3)
    if not known.any():
        return 1.0
    difference = mean_in[known] / mass_in[known, None] - mean_out[known] / mass_out[known, None]
    return float((np.abs(difference).max(1) < NOTICEABLE).mean())


def _sharpness(image: Plane, solid: NDArray[np.uint8]) -> float:
    inside = solid > 0
    if inside.sum() < 50:
        return 255.0
    grey = np.ascontiguousarray(image.mean(2))
    return float(cv2.Laplacian(grey, cv2.CV_32F)[inside].std() * 127.5)
