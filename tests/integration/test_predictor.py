"""The built-in model with the real Paddle."""

import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from deploy.local_photos import SAMPLES
from shared.errors import (
    MattingError,
    ModelLoadError,
    OutOfMemoryError,
    PredictorError,
    UnsupportedTransformError,
)
from shared.options import Profile
from shared.settings import Settings
from worker.imaging.arrays import Size
from worker.imaging.decoding import decode
from worker.imaging.false_holes import fill_false_holes
from worker.imaging.prepared import PreparedImage, restore
from worker.inference.building import collect_shapes
from worker.inference.catalog import BUNDLES, find_model
from worker.inference.engine import ConfigCall, EnginePlan, plans
from worker.inference.predictor import Predictor, load_predictor
from worker.inference.session import PredictorSession
from worker.inference.tensorrt import SHAPE_RANGES, build_once
from worker.inference.trial import TrialResult


@pytest.fixture(scope="module")
def predictor() -> Iterator[Predictor]:
    predictor = load_predictor(Settings(predict_batch_size=4, cpu_threads=2))
    yield predictor
    predictor.close()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A copy of the built-in model that the test may damage."""
    return shutil.copytree(BUNDLES / "builtin", tmp_path / "export")


@pytest.mark.parametrize(("name", "holes"), [("sneaker", 0), ("mug", 1), ("handbag", 1)])
def test_the_samples_keep_their_real_holes_alone(
    predictor: Predictor, name: str, holes: int
) -> None:
    decoded = decode((SAMPLES / f"{name}.jpg").read_bytes(), predictor.settings)
    prepared = predictor.prepare(decoded.image, Profile.FAST)
    (alpha,) = alphas_of(predictor, [prepared])
    filled = fill_false_holes(prepared.without_padding(alpha), decoded.small).alpha
    low = np.pad(filled < 0.5, 1, constant_values=True).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(low, connectivity=8)
    assert int((stats[1:, cv2.CC_STAT_AREA] > 20).sum()) == 1 + holes  # and the surroundings


def shifted(photo: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    return np.roll(photo, pixels, axis=1)


def alphas_of(predictor: Predictor, prepared: list[PreparedImage]) -> list[NDArray[np.float32]]:
    alphas = []
    for alpha in predictor.predict_many(prepared):
        assert not isinstance(alpha, MattingError), alpha
        alphas.append(alpha)
    return alphas


def test_the_predictor_describes_itself(predictor: Predictor) -> None:
    known = predictor.describe()
    assert known["model"] == "builtin"
    assert known["configuration"] in ("onednn", "onednn-bf16")  # the processor decides
    assert known["fallback"] is None
    assert known["fallback"] is None
    assert known["batch_sizes"] == [1, 2, 4]


@pytest.mark.parametrize("profile", list(Profile))
def test_the_subject_is_separated_from_the_background(
    predictor: Predictor, photo: NDArray[np.uint8], profile: Profile
) -> None:
    prepared = predictor.prepare(photo, profile)
    (small,) = alphas_of(predictor, [prepared])
    alpha = restore(small, prepared.steps)
    assert alpha.shape == photo.shape[:2]
    assert alpha[150, 200] > 0.9
    assert alpha[:20].max() < 0.1


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9])
def test_batches_of_any_size_give_each_image_its_own_alpha(
    predictor: Predictor, photo: NDArray[np.uint8], count: int
) -> None:
    photos = [shifted(photo, 10 * n) for n in range(count)]
    prepared = [predictor.prepare(one, Profile.FAST) for one in photos]
    together = alphas_of(predictor, prepared)
    assert len(together) == count
    for alone, alpha in zip(prepared, together, strict=True):
        (expected,) = alphas_of(predictor, [alone])
        np.testing.assert_allclose(alpha, expected, atol=1e-4)


def test_shapes_may_be_mixed_in_a_batch(predictor: Predictor, photo: NDArray[np.uint8]) -> None:
    photos = [photo, photo[:, :200], photo[:120], photo, photo[:, :200]]
    prepared = [predictor.prepare(one, Profile.FAST) for one in photos]
    assert len({one.shape for one in prepared}) == 3
    for one, alpha in zip(prepared, alphas_of(predictor, prepared), strict=True):
        assert alpha.shape == one.shape


def test_every_photo_uses_a_warm_shape(predictor: Predictor) -> None:
    for ratio in np.geomspace(9 / 21, 21 / 9, 60):
        prepared = predictor.prepare(
            np.zeros((300, max(1, round(300 * ratio)), 3), np.uint8), Profile.FAST
        )
        assert prepared.shape in predictor.grid.shapes


def test_a_network_stays_with_the_thread_that_warmed_it(
    predictor: Predictor, photo: NDArray[np.uint8]
) -> None:
    """In another thread oneDNN would compile everything again."""
    prepared = [predictor.prepare(photo, Profile.FAST)] * 3
    before = threading.active_count()
    with ThreadPoolExecutor(6) as askers:
        asked = [askers.submit(alphas_of, predictor, prepared) for _ in range(12)]
        answers = [future.result() for future in asked]
        assert threading.active_count() == before + 6
    assert predictor.describe()["streams"] == 2
    for alphas in answers:
        np.testing.assert_allclose(alphas, answers[0], atol=1e-4)


def test_bf16_agrees_if_the_processor_supports_it(photo: NDArray[np.uint8]) -> None:
    predictor = load_predictor(Settings(precision="bf16", cpu_threads=1), warm_shapes=False)
    known = predictor.describe()
    assert known["configuration"] == "onednn-bf16" or known["fallback"]
    (alpha,) = alphas_of(predictor, [predictor.prepare(photo, Profile.FAST)])
    assert alpha.max() > 0.9
    predictor.close()


class Faulty(Predictor):
    """The real predictor on a device with too little memory, or one that fails on white images."""

    def __init__(self, real: Predictor, fits: int) -> None:
        self.__dict__.update(real.__dict__)
        self.batch_sizes = list(real.batch_sizes)
        self.fits = fits
        self.sizes: list[int] = []

    def _run(self, pixels: NDArray[np.uint8], *, of: int) -> "Future[NDArray[np.float32]]":
        self.sizes.append(len(pixels))
        failed: Future[NDArray[np.float32]] = Future()
        if len(pixels) > self.fits:
            failed.set_exception(OutOfMemoryError())
        elif (pixels == 255).all((1, 2, 3)).any():
            failed.set_exception(PredictorError("the device choked"))
        else:
            return super()._run(pixels, of=of)
        return failed


def test_a_batch_beyond_the_device_s_memory_is_halved_and_the_size_remembered(
    predictor: Predictor, photo: NDArray[np.uint8]
) -> None:
    faulty = Faulty(predictor, fits=2)
    prepared = [predictor.prepare(photo, Profile.FAST)] * 8
    assert len(alphas_of(faulty, prepared)) == 8
    assert faulty.batch_sizes == [1, 2]
    faulty.sizes.clear()
    alphas_of(faulty, prepared)
    assert faulty.sizes == [2, 2, 2, 2]


def test_one_poisonous_image_fails_alone(predictor: Predictor, photo: NDArray[np.uint8]) -> None:
    faulty = Faulty(predictor, fits=4)
    good = predictor.prepare(photo, Profile.FAST)
    bad = PreparedImage(np.full_like(good.image, 255), good.steps)
    results = faulty.predict_many([good, good, bad, good])
    assert [isinstance(one, PredictorError) for one in results] == [False, False, True, False]


def test_a_ping_computes_on_the_device(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor.ping()

    def lost(*_: object) -> None:
        raise PredictorError("The device failed: illegal address")

    monkeypatch.setattr(PredictorSession, "run", lost)
    with pytest.raises(PredictorError, match="illegal address"):
        predictor.ping()


def test_a_plan_that_crashes_is_replaced_by_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]
) -> None:
    crashed = TrialResult("it crashed with signal 6")
    monkeypatch.setattr("worker.inference.predictor.passed_before", lambda *_: None)
    monkeypatch.setattr("worker.inference.predictor.try_plan", lambda *_: crashed)
    predictor = load_predictor(Settings(), warm_shapes=False)
    known = predictor.describe()
    assert known["configuration"] == "plain"
    assert known["fallback"] == "onednn (fp32) was not used: it crashed with signal 6"
    (alpha,) = predictor.predict_many([predictor.prepare(photo, Profile.FAST)])
    assert not isinstance(alpha, MattingError)


def test_a_folder_is_a_model(export: Path) -> None:
    predictor = load_predictor(Settings(model=str(export)), warm_shapes=False)
    assert predictor.describe()["model"] == str(export)


@pytest.mark.parametrize("missing", ["deploy.yaml", "model.pdiparams", "model.pdmodel"])
def test_an_export_that_lacks_a_file_is_refused(export: Path, missing: str) -> None:
    (export / missing).unlink()
    with pytest.raises(ModelLoadError):
        load_predictor(Settings(model=str(export)))


def test_damaged_weights_stop_the_start_with_a_clear_error(export: Path) -> None:
    (export / "model.pdiparams").write_bytes(b"nothing")
    with pytest.raises(ModelLoadError):
        load_predictor(Settings(model=str(export)))


def test_an_unknown_transform_is_refused_at_start(export: Path) -> None:
    path = export / "deploy.yaml"
    deploy = yaml.safe_load(path.read_text())
    deploy["Deploy"]["transforms"].insert(1, {"type": "RandomBlur"})
    path.write_text(yaml.safe_dump(deploy))
    with pytest.raises(UnsupportedTransformError, match="RandomBlur"):
        load_predictor(Settings(model=str(export)))


def test_the_ranges_of_all_shapes_are_collected_for_tensorrt(tmp_path: Path) -> None:
    """On a CPU Paddle collects the ranges as on a GPU; only the engine itself needs one. Paddle
    aborts if the folder does not exist.
    """
    settings = Settings()
    model = find_model(settings)
    *_, plain = plans(settings, model, shapes=2)
    folder = tmp_path / "not" / "there"

    def note(part: Path) -> None:
        call = ConfigCall("collect_shape_range_info", (str(part / SHAPE_RANGES),))
        inputs: list[tuple[int, Size]] = [(1, (384, 384)), (2, (288, 512))]
        collect_shapes(EnginePlan("plain", (*plain.calls, call)), model, inputs)

    build_once(folder, note)
    text = (folder / SHAPE_RANGES).read_text()
    of_input = re.search(r'name: "img"(.*?)}', text, re.DOTALL)
    assert of_input is not None
    sizes = [int(size) for size in re.findall(r"m(?:in|ax)_shape: (\d+)", of_input[1])]
    assert sizes == [1, 3, 288, 384, 2, 3, 384, 512]
    build_once(folder, lambda _: pytest.fail("it is there"))
