"""Signs of trouble become reasons: what a person should look at before it is published.

The mirrored photo is only asked about where something else hints at trouble.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from shared.errors import MattingError
from shared.jobs import Reason
from shared.settings import Settings
from worker.imaging.arrays import Plane
from worker.imaging.matte_metrics import MatteMetrics, disagreement, measure
from worker.imaging.prepared import PreparedImage

HINT = 0.6
"""A sign that comes to this share of its threshold is worth a second look at the mirrored photo."""

DOUBTFUL = frozenset({Reason.EMPTY, Reason.FULL, Reason.PARTS, Reason.SOFT, Reason.LOW_CONTRAST})
"""Signs of a matte that may be wrong. The others are as true of the mirrored photo."""


class ReviewInput(NamedTuple):
    """A matte and what it was made from."""

    alpha: Plane
    prepared: PreparedImage
    side_px: int
    """The shorter side of the photo."""


def review_many(
    seen: Sequence[ReviewInput],
    predict_many: Callable[[list[PreparedImage]], Sequence[Plane | MattingError]],
    settings: Settings,
) -> list[list[Reason]]:
    """For each, why a person should look at it; where there are hints, the mirrored photos are
    asked about in one call.
    """
    metrics = [measure(*one) for one in seen]
    doubtful = [index for index, found in enumerate(metrics) if hints(found, settings)]
    if doubtful:
        again = predict_many([mirrored(seen[index].prepared) for index in doubtful])
        for index, other in zip(doubtful, again, strict=True):
            if not isinstance(other, MattingError):
                apart = disagreement(seen[index].alpha, other, seen[index].prepared)
                metrics[index] = replace(metrics[index], disagreement=apart)
    return [reasons(found, settings) for found in metrics]


def hints(metrics: MatteMetrics, settings: Settings) -> bool:
    """Whether the mirrored photo is worth the network's time: there is a sign that it can confirm,
    and none yet that marks the image anyway.
    """
    near = reasons(metrics, settings, share=HINT)
    return not reasons(metrics, settings) and not DOUBTFUL.isdisjoint(near)


def mirrored(prepared: PreparedImage) -> PreparedImage:
    """The same input, left and right exchanged."""
    return replace(prepared, tensor=np.ascontiguousarray(prepared.tensor[:, :, ::-1]))


def reasons(metrics: MatteMetrics, settings: Settings, *, share: float = 1.0) -> list[Reason]:
    """What is beyond its threshold; with `share`, beyond that part of it."""
    s = settings
    if metrics.coverage < s.review_empty_share / share:
        return [Reason.EMPTY]
    found = {
        Reason.FULL: metrics.coverage > 1 - (1 - s.review_full_share) / share,
        Reason.CUT: metrics.cut > s.review_cut_share * share,
        Reason.PARTS: metrics.parts > s.review_parts * share,
        Reason.SOFT: metrics.soft > s.review_soft_share * share,
        Reason.LOW_CONTRAST: metrics.hidden > s.review_hidden_share * share
        or metrics.alike > s.review_alike_share * share,
        Reason.BLURRED: metrics.sharpness < s.review_sharpness / share,
        Reason.SMALL: share == 1 and metrics.side_px < s.review_side_px,
        Reason.UNSURE: (metrics.disagreement or 0) > s.review_disagreement,
    }
    return [reason for reason, true in found.items() if true]
