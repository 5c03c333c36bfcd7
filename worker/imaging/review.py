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
from worker.imaging.matte_metrics import Plane, Signs, disagreement, measure
from worker.inference.transforms import Prepared

HINT = 0.6
"""A sign that comes to this share of its threshold is worth a second look at the mirrored photo."""

DOUBTFUL = frozenset({Reason.EMPTY, Reason.FULL, Reason.PARTS, Reason.SOFT, Reason.LOW_CONTRAST})
"""Signs of a matte that may be wrong. The others are as true of the mirrored photo."""


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
        Reason.LOW_CONTRAST: signs.hidden > s.review_hidden_share * share
        or signs.alike > s.review_alike_share * share,
        Reason.BLURRED: signs.sharpness < s.review_sharpness / share,
        Reason.SMALL: share == 1 and signs.side_px < s.review_side_px,
        Reason.UNSURE: (signs.disagreement or 0) > s.review_disagreement,
    }
    return [reason for reason, true in found.items() if true]
