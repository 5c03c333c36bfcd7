"""The program that takes pixels and gives pixels, with the real Paddle on the CPU."""

import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.local_photos import SAMPLES
from shared.errors import EngineUnavailableError, MattingError, PredictorError
from shared.options import Profile
from shared.settings import Settings
from tests.integration.test_exports import export
from worker.imaging.arrays import Size
from worker.imaging.decoding import decode
from worker.inference.building import build_program, collect_shapes
from worker.inference.catalog import Model, find_model
from worker.inference.engine import ConfigCall, EnginePlan, plans, reference
from worker.inference.paddle_runtime import NATIVE
from worker.inference.pixel_program import (
    FROM_BYTES,
    PREFIX,
    TO_BYTES,
    UINT8,
    write_program,
)
from worker.inference.predictor import Predictor
from worker.inference.session import PredictorSession
from worker.inference.tensorrt import SHAPE_RANGES
from worker.inference.transforms import ExactTransforms

pytestmark = pytest.mark.filterwarnings("ignore")  # Paddle's own, when all of it is imported

CPU = Settings(device="cpu", precision="fp32", cpu_threads=2, predict_streams=1)


def program_of(model: Model, folder: Path) -> Path:
    file = folder / "pixels.pdmodel"
    write_program(file, model)
    return file


@pytest.fixture(scope="module", params=["builtin", "u2netp"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Path]:
    model = find_model(CPU.model_copy(update={"model": request.param}))
    return model, program_of(model, tmp_path_factory.mktemp("cache"))


def photos(count: int, size: Size) -> NDArray[np.uint8]:
    """A photo at this size, the same one darker, another one, and a black one."""
    height, width = size
    first, other = (
        cv2.resize(decode((SAMPLES / f"{name}.jpg").read_bytes(), CPU).image, (width, height))
        for name in ("sneaker", "handbag")
    )
    return np.array([first, first // 3, other, np.zeros_like(first)][:count], np.uint8)


def both(model: Model, graph: Path, kind: str) -> tuple[PredictorSession, PredictorSession]:
    """A session of the model's own program, and one of the program for pixels."""
    plan = next(one for one in plans(CPU, model, shapes=9) if one.kind == kind)
    return PredictorSession(plan, model), PredictorSession(replace(plan, graph=graph), model)


def assert_equal(
    model: Model, own: PredictorSession, of_pixels: PredictorSession, seen: NDArray[np.uint8]
) -> None:
    expected = own.run(ExactTransforms(model.transforms).normalisation.apply(seen))
    found = of_pixels.run(seen)
    assert found.dtype == np.float32
    assert float(found.max()) <= 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1 / 255)
    assert float(np.abs(found - expected).mean()) < 0.5 / 255  # rounded, not cut off


@pytest.mark.parametrize("kind", ["plain", "onednn"])
def test_it_gives_the_same_alphas_as_the_plain_way(made: tuple[Model, Path], kind: str) -> None:
    model, graph = made
    own, of_pixels = both(model, graph, kind)
    shapes = [model.fixed_shape] if model.fixed_shape else [(384, 384), (288, 512)]
    for shape in shapes:
        for count in (1, 4) if kind == "onednn" else (2,):  # the plain engine is slow
            assert_equal(model, own, of_pixels, photos(count, shape))


def test_a_sigmoid_behind_the_network_is_part_of_it(tmp_path: Path) -> None:
    model = replace(find_model(CPU), postprocess=("Sigmoid", "Stretch"))
    graph = program_of(model, tmp_path)
    assert_equal(model, *both(model, graph, "plain"), photos(2, (96, 128)))


def test_an_answer_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    """A byte can't say so."""
    folder = export(tmp_path, [None, 3, None, None], older=True)
    weights = folder / "model.pdiparams"
    four, no_number = np.float32(4).tobytes(), np.float32("nan").tobytes()
    assert four in weights.read_bytes()
    weights.write_bytes(weights.read_bytes().replace(four, no_number))
    model = find_model(CPU.model_copy(update={"model": str(folder)}))
    for session in both(model, program_of(model, tmp_path), "plain")[1:]:
        with pytest.raises(PredictorError, match="not numbers"):
            session.run(photos(1, (64, 96)))


def test_it_is_kept_only_if_its_alphas_are_those_of_the_plain_way(tmp_path: Path) -> None:
    model = find_model(CPU)
    truthful = reference(CPU, model)
    card = photos(1, (96, 128))
    own = PredictorSession(truthful, model)
    truth = own.run(ExactTransforms(model.transforms).normalisation.apply(card))
    graph = tmp_path / "pixels" / "model.pdmodel"
    for wrong in (truth + np.float32(0.01), np.full_like(truth, np.nan)):
        with pytest.raises(EngineUnavailableError, match="levels of 255"):
            build_program(truthful, model, graph, card, wrong)
        assert not graph.parent.exists()
    build_program(truthful, model, graph, card, truth)
    program = graph.read_bytes()
    build_program(truthful, model, graph, card, truth + np.float32(0.01))  # it is there
    for broken in (b"", program[:-9]):
        graph.write_bytes(broken)
        build_program(truthful, model, graph, card, truth)
        assert graph.read_bytes() == program
    assert not list(tmp_path.glob("*.part-*"))


def test_only_two_operators_handle_bytes_and_their_results_have_fixed_names(
    made: tuple[Model, Path],
) -> None:
    """TensorRT has no uint8, and these names keep both out of its engines."""
    _, graph = made
    program = sys.modules[NATIVE].ProgramDesc(graph.read_bytes())
    block = program.block(0)
    found = [block.op(index) for index in range(block.op_size())]
    casts = [one for one in found if one.type() == "cast"]
    of_bytes = [one for one in casts if UINT8 in (one.attr("in_dtype"), one.attr("out_dtype"))]
    assert [one.output("Out") for one in of_bytes] == [[FROM_BYTES], [TO_BYTES]]
    users = [one for one in found if {PREFIX, TO_BYTES} & {*one.input_arg_names()}]
    assert [one.type() for one in users] == ["cast", "fetch"]


def operators(plan: EnginePlan, model: Model, folder: Path) -> Counter[str]:
    """The operators that Paddle's passes leave of a program."""
    folder.mkdir()
    calls = (
        ConfigCall("set_optim_cache_dir", (str(folder),)),
        ConfigCall("enable_save_optim_model", (True,)),
    )
    PredictorSession(replace(plan, calls=(*plan.calls, *calls)), model)
    (file,) = folder.glob("*.pdmodel")
    program = sys.modules[NATIVE].ProgramDesc(file.read_bytes())  # it holds the block
    block = program.block(0)
    return Counter(block.op(index).type() for index in range(block.op_size()))


def test_the_passes_of_the_engine_still_fuse_the_network(
    made: tuple[Model, Path], tmp_path: Path
) -> None:
    model, graph = made
    plan, *_ = plans(CPU, model, shapes=9)
    own = operators(plan, model, tmp_path / "own")
    of_pixels = operators(replace(plan, graph=graph), model, tmp_path / "of_pixels")
    fused = {name: count for name, count in own.items() if "fused" in name or "conv" in name}
    assert fused["fused_conv2d"] > 20
    assert {name: of_pixels[name] for name in fused} == fused


def test_the_ranges_of_shapes_are_collected_on_it(tmp_path: Path) -> None:
    model = find_model(CPU)
    graph = program_of(model, tmp_path)
    *_, plain = plans(CPU, model, shapes=2)
    note = ConfigCall("collect_shape_range_info", (str(tmp_path / SHAPE_RANGES),))
    shape = 96, 128
    plan = replace(plain, calls=(*plain.calls, note), graph=graph)
    collect_shapes(plan, model, [(1, shape), (2, shape)])
    text = (tmp_path / SHAPE_RANGES).read_text()
    of_input = re.search(rf'name: "{PREFIX}"(.*?)}}', text, re.DOTALL)
    assert of_input is not None
    sizes = [int(size) for size in re.findall(r"m(?:in|ax)_shape: (\d+)", of_input[1])]
    assert sizes == [1, *shape, 3, 2, *shape, 3]


def test_a_predictor_sends_pixels_to_it(
    tmp_path: Path, photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find_model(CPU)
    graph = program_of(model, tmp_path)
    own = Predictor(CPU, model, warm_shapes=False)
    plan = replace(own.plan, graph=graph)
    monkeypatch.setattr(Predictor, "_choose_plan", lambda _: plan)
    predictor = Predictor(CPU, model, warm_shapes=False)
    assert predictor.describe()["pixels"]
    predictor.ping()
    inputs = [predictor.prepare(one, Profile.FAST) for one in (photo, photo[:, ::-1])]
    for one, expected in zip(predictor.predict_many(inputs), own.predict_many(inputs), strict=True):
        assert not isinstance(one, MattingError)
        assert not isinstance(expected, MattingError)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1 / 255)
    predictor.close()
    own.close()
