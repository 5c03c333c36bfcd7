"""Review marks: each is found in the photos that it is meant for, and in no others."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest

from shared.errors import MattingError, PredictorError
from shared.jobs import Reason
from shared.settings import Settings
from worker.imaging.arrays import Plane
from worker.imaging.matte_metrics import measure
from worker.imaging.prepared import PreparedImage
from worker.imaging.review import Reviewed, ReviewInput, review_measured
from worker.inference.shapes import ShapeGrid

SIZE = (320, 416)


def review_many(
    mattes: Sequence[ReviewInput],
    predict_many: Callable[[list[PreparedImage]], Sequence[Plane | MattingError]],
    settings: Settings,
) -> list[Reviewed]:
    metrics = [measure(*one) for one in mattes]
    return review_measured(mattes, metrics, predict_many, settings)


def scene(
    alpha: Plane, *, subject: float = 0.8, wall: float = -0.6, grain: float = 0.2
) -> PreparedImage:
    """A subject of one tone on a wall of another, in -1..1, both with grain."""
    noise = np.random.default_rng(3).normal(0, grain, (*SIZE, 3))
    tones = (alpha * subject + (1 - alpha) * wall)[..., None] + noise
    pixels = np.clip(np.rint((tones + 1) * 127.5), 0, 255).astype(np.uint8)
    return PreparedImage(pixels, (("resize", (1000, 1300)),))


def disc(x: int = 208, y: int = 160, radius: int = 100, softness: float = 1.0) -> Plane:
    alpha = np.zeros(SIZE, np.float32)
    cv2.circle(alpha, (x, y), radius, 1.0, -1)
    return cv2.GaussianBlur(alpha, (0, 0), softness).astype(np.float32)


def reasons(
    alpha: Plane, prepared: PreparedImage | None = None, side_px: int = 1_000
) -> list[Reason]:
    prepared = prepared or scene(alpha)
    mirror: Plane = alpha[:, ::-1]
    (found,) = review_many([ReviewInput(alpha, prepared, side_px)], lambda _: [mirror], Settings())
    return found.reasons


def dots() -> Plane:
    alpha = np.zeros(SIZE, np.float32)
    for x in range(40, 400, 60):
        cv2.circle(alpha, (x, 160), 20, 1.0, -1)
    return alpha


def test_a_plain_subject_gets_no_review_mark() -> None:
    assert reasons(disc()) == []


@pytest.mark.parametrize(
    ("alpha", "reason"),
    [
        (np.zeros(SIZE, np.float32), Reason.EMPTY),
        (np.full(SIZE, 0.3, np.float32), Reason.EMPTY),
        (np.ones(SIZE, np.float32), Reason.FULL),
        (disc(x=208, y=330, radius=260), Reason.CUT),
        (dots(), Reason.PARTS),
        (disc(softness=40), Reason.SOFT),
    ],
)
def test_a_doubtful_matte_has_a_reason(alpha: Plane, reason: Reason) -> None:
    assert reason in reasons(alpha)


def test_one_tone_on_another_is_low_contrast() -> None:
    alpha = disc()
    assert Reason.LOW_CONTRAST in reasons(alpha, scene(alpha, subject=0.62, wall=0.6, grain=0.02))


def test_a_piece_of_the_background_is_found_by_its_colours() -> None:
    true = disc()
    taken = true.copy()
    taken[100:250, 300:400] = 1  # tiles beside the garment
    prepared = scene(true)
    assert reasons(true, prepared) == []
    assert reasons(taken, prepared) == [Reason.LOW_CONTRAST]


def test_an_edge_does_not_count_as_a_surface() -> None:
    assert Reason.SOFT not in reasons(disc(softness=2.5))
    open_to_doubt = disc()
    open_to_doubt[140:180, 180:240] = 0.5
    assert Reason.SOFT in reasons(open_to_doubt)


def test_blurred_and_tiny_photos_are_marked() -> None:
    alpha = disc()
    assert Reason.BLURRED in reasons(alpha, scene(disc(softness=12), grain=0.0))
    assert Reason.SMALL in reasons(alpha, side_px=90)


def test_the_mirrored_photo_is_predicted_only_for_doubtful_results() -> None:
    asked: list[int] = []

    def predict_many(prepared: list[PreparedImage]) -> list[Plane]:
        asked.append(len(prepared))
        # There the network sees something else.
        return [disc(x=120) for _ in prepared]

    clear, doubtful = disc(), disc(softness=4)
    seen = [ReviewInput(one, scene(one), 1_000) for one in (clear, doubtful, clear)]
    first, second, third = review_many(seen, predict_many, Settings(review_soft_share=0.12))
    assert asked == [1]
    assert (first.reasons, third.reasons) == ([], [])
    assert Reason.UNSURE in second.reasons
    assert second.alpha is doubtful


def test_a_failed_second_prediction_keeps_the_other_marks() -> None:
    alpha = disc(softness=40)
    seen = [ReviewInput(alpha, scene(alpha), 1_000)]
    (found,) = review_many(seen, lambda _: [PredictorError()], Settings())
    assert Reason.SOFT in found.reasons
    assert found.alpha is alpha


def test_a_doubtful_matte_becomes_the_mean_of_the_photo_and_its_mirror_image() -> None:
    """One has a smear beside the subject, which the mirrored photo does not show."""
    clean, smeared = disc(), disc()
    smeared[120:200, 310:400] = 0.6
    seen = [ReviewInput(smeared, scene(clean), 1_000)]
    (found,) = review_many(seen, lambda _: [clean[:, ::-1]], Settings())
    assert np.allclose(found.alpha, (clean + smeared) / 2)
    assert found.alpha[:, 310:400].max() < 0.5
    apart = float(np.abs(clean - smeared).sum() / smeared.sum())
    assert found.metrics.disagreement == pytest.approx(apart)
    assert Reason.UNSURE in found.reasons


def test_padding_is_no_part_of_the_photo() -> None:
    alpha = disc(x=150)
    alpha[:, 300:] = 1
    prepared = PreparedImage(
        scene(disc(x=150)).image, (("resize", (10, 10)), ("padding", (320, 300)))
    )
    mirror: Plane = np.ascontiguousarray(alpha[:, ::-1])
    (found,) = review_many([ReviewInput(alpha, prepared, 900)], lambda _: [mirror], Settings())
    assert Reason.CUT not in found.reasons
    assert Reason.FULL not in found.reasons


def test_a_photo_that_is_far_longer_than_wide_is_marked() -> None:
    grid = ShapeGrid.around(384)
    pixels = np.random.default_rng(3).integers(0, 255, (300, 3_000, 3), np.uint8)
    for width, marked in ((1_500, False), (3_000, True)):
        prepared = grid.prepare(pixels[:, :width])
        alpha = np.zeros(prepared.shape, np.float32)
        cv2.circle(alpha, (150, prepared.content_size[0] // 2), 15, 1.0, -1)
        assert (Reason.SMALL in reasons(alpha, prepared, side_px=300)) is marked
