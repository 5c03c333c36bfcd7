"""Whose matte is kept when a second model was asked."""

import cv2
import numpy as np
import pytest

from shared.jobs import Reason
from shared.settings import Settings
from tests.unit.test_review import disc, scene
from worker.imaging.arrays import Plane
from worker.imaging.choosing import Kept, Opinion, choose, far_apart, is_doubtful
from worker.imaging.matte_metrics import measure
from worker.imaging.prepared import PreparedImage
from worker.imaging.review import reasons


def opinion(alpha: Plane) -> Opinion:
    prepared = scene(disc())
    metrics = measure(alpha, prepared, 1_000)
    return Opinion(alpha, prepared, metrics, tuple(reasons(metrics, Settings())))


def scene_of(alpha: Plane) -> PreparedImage:
    return PreparedImage(np.full((*alpha.shape, 3), 128, np.uint8), (("resize", (1_000, 1_300)),))


HAZY, CLEAR = opinion(disc(softness=40)), opinion(disc())
EMPTY = opinion(np.zeros_like(disc()))
UNDECIDED = opinion(disc(softness=4) * np.float32(0.6))
CLOSE_UP, SLEEVE = opinion(disc(x=208, y=200, radius=225)), opinion(disc(x=300, radius=60))
EVERYTHING = opinion(np.ones_like(disc()))


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (HAZY, CLEAR, Kept.SECOND),
        (EMPTY, CLEAR, Kept.SECOND),
        (HAZY, EMPTY, Kept.FIRST),
        (EMPTY, EMPTY, Kept.FIRST),
        (CLEAR, UNDECIDED, Kept.FIRST),
        (CLEAR, HAZY, Kept.FIRST),
        (HAZY, HAZY, Kept.SECOND),
        (UNDECIDED, CLEAR, Kept.SECOND),
        (CLOSE_UP, SLEEVE, Kept.FIRST),
        (CLOSE_UP, CLOSE_UP, Kept.SECOND),
        (EVERYTHING, CLEAR, Kept.SECOND),
    ],
)
def test_the_second_matte_is_kept_unless_it_is_undecided_or_a_piece_of_a_close_up(
    first: Opinion, second: Opinion, kept: Kept
) -> None:
    assert choose(first, second) is kept


def test_mattes_of_two_subjects_are_far_apart() -> None:
    left, right = opinion(disc(x=110, radius=60)), opinion(disc(x=300, radius=60))
    assert far_apart(left, right)
    assert not far_apart(opinion(disc(radius=85)), CLEAR)
    smaller = cv2.resize(CLEAR.alpha, (320, 320), interpolation=cv2.INTER_AREA).astype(np.float32)
    assert not far_apart(CLEAR, CLEAR._replace(alpha=smaller, prepared=scene_of(smaller)))


def test_a_photo_that_stays_as_it_is_is_no_reason_to_ask_again() -> None:
    of_the_photo = {Reason.BLURRED, Reason.SMALL, Reason.CUT, Reason.LOW_CONTRAST, Reason.REDONE}
    of_photo_sets = {Reason.OUTSIDE, Reason.INCOMPLETE}
    assert not is_doubtful([], 0)
    assert not is_doubtful(sorted(of_the_photo), 1)
    assert not is_doubtful([Reason.SOFT], 0.045)
    assert is_doubtful([Reason.SOFT, Reason.CUT], 0.06)
    assert is_doubtful([Reason.SOFT], 0.06, disagreement=0.05)
    assert not is_doubtful([Reason.SOFT], 0.06, disagreement=0.03)
    assert is_doubtful([Reason.SOFT], 0.2, disagreement=0.03)
    assert is_doubtful([Reason.PARTS], 0, disagreement=0)
    assert all(
        is_doubtful([one], 0) for one in set(Reason) - of_the_photo - of_photo_sets - {Reason.SOFT}
    )
