"""Which photos a second model is asked about, and what becomes of its answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.earlier_result import EarlierResult
from shared.errors import MattingError, PredictorError
from shared.jobs import Reason
from shared.options import Options, Profile
from shared.settings import Settings
from tests.waiting import eventually
from worker.imaging.arrays import Image
from worker.imaging.prepared import PreparedImage
from worker.pipeline.handover import read_handover, write_handover
from worker.pipeline.pipeline import Outcome, Pipeline, WorkItem
from worker.pipeline.second_opinions import SecondOpinions
from worker.pipeline.work_items import requested_outputs

DOUBTS = (Reason.SOFT, Reason.LOW_CONTRAST)
"""What the review says of a matte that is half-transparent everywhere."""


def reddish(prepared: PreparedImage) -> NDArray[np.bool_]:
    red, green = (prepared.image[..., channel].astype(np.int16) for channel in (0, 1))
    return red - green > 76


class Red:
    """What is red is the subject, as opaque as `alpha` says."""

    def __init__(self, alpha: float, error: MattingError | None = None) -> None:
        self.alpha, self.error = np.float32(alpha), error
        self.images = 0

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        return PreparedImage(image, (("resize", (image.shape[0], image.shape[1])),))

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        self.images += len(prepared)
        if self.error is not None:
            return [self.error for _ in prepared]
        return [reddish(one) * self.alpha for one in prepared]


class Patched(Red):
    """Red, with a half-transparent patch: at the top or the left of the photo that it is given."""

    def __init__(self, side: str) -> None:
        super().__init__(1)
        self.side = side

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        found = super().predict_many(prepared)
        for alpha in found:
            assert not isinstance(alpha, MattingError)
            rows, columns = np.nonzero(alpha)
            across = columns if self.side == "left" else rows
            patch = across < np.quantile(across, 0.1)
            alpha[rows[patch], columns[patch]] = 0.5
        return found


class Shelf:
    """A store in memory with one photo under every key of the bucket `photos`."""

    def __init__(self, photo: bytes) -> None:
        self.photo = photo
        self.stored: dict[str, bytes] = {}

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        return self.photo if bucket == "photos" else self.stored[key]

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.stored[key] = data


@pytest.fixture
def shelf(jpeg: bytes) -> Shelf:
    return Shelf(jpeg)


def run(
    shelf: Shelf,
    first: Red,
    second: Red | None,
    *,
    elsewhere: bool = False,
    forwarded_to: str | None = None,
    asked: dict[str, Any] | None = None,
) -> Outcome:
    """One photo through a pipeline of the first model that may ask the second one."""
    settings = Settings(model=forwarded_to or "builtin")
    root = Settings()
    seconds = SecondOpinions(root, lambda _: second, lambda _: elsewhere)
    pipeline = Pipeline(first, shelf, settings, second=seconds)
    options = Options.model_validate(asked or {})
    item = WorkItem(
        item_id="1",
        bucket="photos",
        key="a.jpg",
        options=options,
        outputs=requested_outputs(options, ["r1"]),
        forwarded_to=forwarded_to,
        handover_key="h1",
    )
    (outcome,) = pipeline.run_many([item])
    pipeline.close()
    assert outcome.error is None
    return outcome


def test_a_doubtful_photo_gets_the_second_models_matte(shelf: Shelf) -> None:
    first, second = Red(0.7), Red(1)
    outcome = run(shelf, first, second)
    assert (outcome.model, outcome.review, second.images) == ("u2netp", (), 1)


def test_a_clear_photo_is_not_asked_about(shelf: Shelf) -> None:
    second = Red(1)
    outcome = run(shelf, Red(1), second)
    assert (outcome.model, outcome.review, second.images) == ("builtin", (), 0)


@pytest.mark.parametrize(("side", "asked"), [("top", 0), ("left", 1)])
def test_a_model_that_sees_the_same_in_the_mirrored_photo_needs_no_second(
    shelf: Shelf, side: str, asked: int
) -> None:
    """Both mattes are half-transparent in the same share of the subject."""
    first, second = Patched(side), Red(1)
    outcome = run(shelf, first, second)
    assert (first.images, second.images) == (2, asked)
    assert outcome.review == (() if asked else (Reason.SOFT,))


def test_a_clear_photo_does_not_wait_for_the_doubtful_one_of_its_batch(shelf: Shelf) -> None:
    class OneOfBoth(Red):
        def predict_many(
            self, prepared: Sequence[PreparedImage]
        ) -> list[NDArray[np.float32] | MattingError]:
            found = [reddish(one) for one in prepared]
            *clear, doubtful = found  # alone: the mirrored photo
            return [*(one.astype(np.float32) for one in clear), doubtful * np.float32(0.7)]

    class Waits(Red):
        def predict_many(
            self, prepared: Sequence[PreparedImage]
        ) -> list[NDArray[np.float32] | MattingError]:
            eventually(lambda: "clear" in shelf.stored, "the clear photo's result")
            return super().predict_many(prepared)

    seconds = SecondOpinions(Settings(), lambda _: Waits(1))
    pipeline = Pipeline(OneOfBoth(1), shelf, Settings(), second=seconds)
    options = Options()
    work = [
        WorkItem(
            item_id=name,
            bucket="photos",
            key="a.jpg",
            options=options,
            outputs=requested_outputs(options, [name]),
        )
        for name in ("clear", "doubtful")
    ]
    clear, doubtful = pipeline.run_many(work)
    pipeline.close()
    assert (clear.error, clear.model) == (None, "builtin")
    assert (doubtful.error, doubtful.model) == (None, "u2netp")


def test_what_both_leave_doubtful_is_flagged(shelf: Shelf) -> None:
    outcome = run(shelf, Red(0.7), Red(0.6))
    assert (outcome.model, outcome.review) == ("builtin", DOUBTS)


def test_a_second_model_that_fails_changes_nothing(shelf: Shelf) -> None:
    outcome = run(shelf, Red(0.7), Red(1, PredictorError()))
    assert (outcome.model, outcome.review) == ("builtin", DOUBTS)


@pytest.mark.parametrize("asked", [{"second_model": "none"}, {"model": "other"}])
def test_options_decide_whether_there_is_a_second_model(
    shelf: Shelf, asked: dict[str, str]
) -> None:
    second = Red(1)
    outcome = run(shelf, Red(0.7), second, asked=asked)
    assert (outcome.review, second.images) == (DOUBTS, 0)


def test_a_photo_goes_on_to_the_worker_that_serves_the_second_model(shelf: Shelf) -> None:
    """Both ways give the same: within one worker, and through two."""
    run(shelf, Red(0.7), Red(1))
    together = shelf.stored["r1"]
    shelf.stored.clear()
    first = run(shelf, Red(0.7), None, elsewhere=True)
    assert (first.forward_to, first.outputs, first.fingerprint) == ("u2netp", (), None)
    assert set(shelf.stored) == {"h1"}
    second = run(shelf, Red(1), None, forwarded_to="u2netp")
    assert (second.model, second.review, second.forward_to) == ("u2netp", (), None)
    assert shelf.stored["r1"] == together


def test_a_worker_of_the_second_model_may_keep_the_first_matte(shelf: Shelf) -> None:
    run(shelf, Red(0.7), None, elsewhere=True)
    outcome = run(shelf, Red(0.6), None, forwarded_to="u2netp")
    assert (outcome.model, outcome.review) == ("builtin", DOUBTS)


def test_a_damaged_handover_leaves_the_second_models_matte(shelf: Shelf) -> None:
    shelf.stored["h1"] = b"no picture"
    outcome = run(shelf, Red(1), None, forwarded_to="u2netp")
    assert (outcome.model, outcome.review) == ("u2netp", ())


def test_nothing_waits_for_a_second_model_that_nobody_serves(shelf: Shelf) -> None:
    outcome = run(shelf, Red(0.7), None)
    assert (outcome.model, outcome.forward_to) == ("builtin", None)
    assert outcome.review == DOUBTS


class Past:
    """Earlier results: none. Every photo has one fingerprint, as twins have."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def fingerprint(self, tenant: str, data: bytes, options: Options) -> str:
        return "the same"

    def find_many(
        self, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], EarlierResult]:
        return {}

    def copy(self, source_key: str, key: str) -> None:
        self._shelf.stored[key] = self._shelf.stored[source_key]


@pytest.mark.parametrize(("alpha", "reusable"), [(1.0, True), (0.7, False)])
def test_a_twin_is_reused_only_if_its_leader_is(shelf: Shelf, alpha: float, reusable: bool) -> None:
    seconds = SecondOpinions(Settings(), lambda _: None, lambda _: False)
    pipeline = Pipeline(Red(alpha), shelf, Settings(), Past(shelf), second=seconds)
    options = Options()
    items = [
        WorkItem(
            item_id=name,
            bucket="photos",
            key="a.jpg",
            options=options,
            outputs=requested_outputs(options, [name]),
        )
        for name in ("one", "two")
    ]
    outcomes = pipeline.run_many(items)
    pipeline.close()
    assert sorted(one.reused for one in outcomes) == [False, True]
    assert {one.fingerprint for one in outcomes} == {"the same" if reusable else None}


def test_the_handover_keeps_alpha_model_and_reasons() -> None:
    alpha = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    found = read_handover(write_handover(alpha, "builtin", [Reason.SOFT, Reason.CUT]))
    assert np.abs(found.alpha - alpha).max() <= 0.5 / 255 + 1e-6
    assert (found.model, found.reasons) == ("builtin", (Reason.SOFT, Reason.CUT))


@pytest.mark.parametrize(
    ("values", "second", "served"),
    [
        ({}, "u2netp", ["builtin", "u2netp"]),
        ({"second_model": "none"}, None, ["builtin"]),
        ({"second_model": ""}, "u2netp", ["builtin", "u2netp"]),
        ({"model": "isnet"}, None, ["isnet"]),
        ({"model": "isnet", "second_model": "birefnet"}, "birefnet", ["isnet", "birefnet"]),
        ({"model": "u2netp", "second_model": "u2netp"}, None, ["u2netp"]),
        ({"models": "other"}, "u2netp", ["builtin", "other", "u2netp"]),
        ({"worker_models": "builtin"}, "u2netp", ["builtin"]),
    ],
)
def test_the_settings_say_which_model_is_second(
    values: dict[str, str], second: str | None, served: list[str]
) -> None:
    settings = Settings.model_validate(values)
    assert settings.default_second_model == second
    assert settings.served_models == served
