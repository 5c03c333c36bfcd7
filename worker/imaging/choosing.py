"""Choosing between two models' mattes of one photo.

The second model is asked about mattes with certain review reasons. On labelled photos its matte was
nearly always the better one, except in two cases. It could not decide itself: then it is more
half-transparent than the first one, and has more signs of trouble altogether. Or the photo is a
close-up, and it takes one piece of the subject for all of it. The mean of both was worse than the
better one.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np

from shared.jobs import Reason
from worker.imaging.arrays import Alpha
from worker.imaging.matte_metrics import MatteMetrics, difference
from worker.imaging.prepared import PreparedImage

WRONG_SUBJECT = frozenset({Reason.EMPTY, Reason.FULL, Reason.PARTS, Reason.UNSURE})
"""Reasons to ask another model. Another model can't help blurred and small photos, and rarely helps
subjects that are cut off or look like their background. Asking about these, too, doubles the number
of photos asked and mends 3 % more.
"""

ASKED_SOFT_SHARE = 0.05
"""A matte whose half-transparent areas exceed this share of the subject is a reason, too, if the
review marks it."""

SAME_SHARE = 0.04
"""If the mattes of the photo and of its mirror image differ by at most this share of the subject,
the first model is sure of what it shows, and the second model is not asked. Of 44 such photos that
were only half-transparent, 4 were bad (IoU below 0.9; mean 0.956).
"""

ASKED_ANYWAY_SOFT_SHARE = 0.1
"""Above this half-transparent share the second model is asked even then."""

CLOSE_UP_CUT = 0.5
"""A matte that covers more than this share of the photo's border shows a close-up."""

CLOSE_UP_MARGIN = 0.1
"""If the second matte of a close-up covers less of the border by this share, it is a piece of the
subject: a sleeve, a zip. On 11 photos of training such a matte was worse each time (mean IoU 0.38
instead of 0.93).
"""

UNDECIDED_MARGIN = 0.05
"""If the half-transparent share of the second matte is larger than that of the first one by this
much, the second model could not decide.
"""


FAR_APART = 0.5
"""If two mattes differ by more than this share of the subject, they show two different subjects,
and a person must say which one is meant: more than half of these photos were bad whichever matte
was kept.
"""


class Kept(StrEnum):
    """Whose matte is kept."""

    FIRST = "first"
    SECOND = "second"


class Opinion(NamedTuple):
    """A model's matte of a photo."""

    alpha: Alpha
    prepared: PreparedImage
    metrics: MatteMetrics
    reasons: tuple[Reason, ...]
    fit: float = 1.0
    """The share of the points of the option `subject` that the matte agrees with."""


def is_doubtful(reasons: Sequence[Reason], soft: float, disagreement: float | None = None) -> bool:
    """Whether another model may do better.

    `soft`: the half-transparent share of the matte. `disagreement`: its difference from the matte
    of the mirrored photo; None: unknown.
    """
    sure = disagreement is not None and disagreement <= SAME_SHARE
    least = ASKED_ANYWAY_SOFT_SHARE if sure else ASKED_SOFT_SHARE
    undecided = Reason.SOFT in reasons and soft > least
    return undecided or not WRONG_SUBJECT.isdisjoint(reasons)


def choose(first: Opinion, second: Opinion) -> Kept:
    """Whose matte to keep, if the first one is doubtful or agrees with few points."""
    if first.fit != second.fit:
        return Kept.FIRST if first.fit > second.fit else Kept.SECOND
    if Reason.EMPTY in second.reasons:
        return Kept.FIRST
    if Reason.EMPTY in first.reasons:
        return Kept.SECOND
    if _is_piece_of_close_up(first, second):
        return Kept.FIRST
    undecided = second.metrics.soft > first.metrics.soft + UNDECIDED_MARGIN
    worse = _trouble(second.metrics) > _trouble(first.metrics)
    return Kept.FIRST if undecided and worse else Kept.SECOND


def far_apart(first: Opinion, second: Opinion) -> bool:
    """Whether two mattes of a photo differ so much that either may be wrong."""
    ours = first.prepared.without_padding(first.alpha)
    theirs = second.prepared.without_padding(second.alpha)
    size = theirs.shape[1], theirs.shape[0]
    resized = cv2.resize(ours, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    return difference(resized, theirs) > FAR_APART


def _is_piece_of_close_up(first: Opinion, second: Opinion) -> bool:
    """Whether the second matte holds only a piece of what the first one shows. A first matte that
    takes the whole photo shows nothing.
    """
    cut = first.metrics.cut
    piece = second.metrics.cut < cut - CLOSE_UP_MARGIN
    return cut > CLOSE_UP_CUT and piece and Reason.FULL not in first.reasons


def _trouble(metrics: MatteMetrics) -> float:
    """Shares of subject and edge that speak against a matte, added up."""
    return metrics.soft + metrics.hidden + metrics.alike
