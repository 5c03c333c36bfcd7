"""The calls that configure Paddle for each device. Reading them needs no GPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import EngineUnavailableError
from shared.settings import Settings
from worker.imaging.arrays import Size
from worker.inference import engine, pixel_program
from worker.inference.catalog import Model, find_model
from worker.inference.engine import (
    ONEDNN_RESIZE,
    EnginePlan,
    OperatorSet,
    collecting,
    plans,
    reference,
    streams,
)
from worker.inference.opening import create
from worker.inference.pixel_program import FROM_BYTES, TO_BYTES, pixel_graph
from worker.inference.tensorrt import engine_folder


@pytest.fixture(autouse=True)
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """No instructions for bf16, whatever runs the tests."""
    monkeypatch.setattr(engine, "multiplies_bf16", lambda: False)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    for name in ("model.pdmodel", "model.pdiparams"):
        (tmp_path / name).write_bytes(name.encode())
    return Model("tiny", tmp_path / "model.pdmodel", tmp_path / "model.pdiparams", ())


def planned(model: Model, **values: object) -> list[EnginePlan]:
    return plans(Settings.model_validate(values), model, shapes=30)


def calls(plan: EnginePlan) -> dict[str, tuple[object, ...]]:
    return {call.method: call.arguments for call in plan.calls}


def test_a_cpu_gets_onednn_and_a_plain_engine_to_check_it(model: Model) -> None:
    fast, plain = planned(model, device="cpu", cpu_threads=3)
    assert (fast.kind, plain.kind) == ("onednn", "plain")
    assert calls(fast)["set_mkldnn_cache_capacity"] == (30,)
    assert calls(fast)["set_cpu_math_library_num_threads"] == (1,)
    assert "disable_mkldnn" in calls(plain)


@pytest.mark.parametrize(
    ("values", "side_by_side", "threads_each"),
    [
        ({"cpu_threads": 1}, 1, 1),
        ({"cpu_threads": 2}, 2, 1),
        ({"cpu_threads": 16}, 4, 4),
        ({"cpu_threads": 6, "predict_streams": 2}, 2, 3),
        ({"cpu_threads": 2, "predict_streams": 3}, 3, 1),
    ],
)
def test_the_threads_of_a_cpu_are_shared_by_the_streams(
    model: Model, values: dict[str, object], side_by_side: int, threads_each: int
) -> None:
    assert streams(Settings.model_validate(values)) == side_by_side
    fast, _plain = planned(model, **values)
    assert calls(fast)["set_cpu_math_library_num_threads"] == (threads_each,)


def test_a_device_gets_one_network_by_default() -> None:
    assert streams(Settings(device="gpu:0", cpu_threads=8)) == 1


def test_bf16_falls_back_to_fp32_before_the_plain_engine(model: Model) -> None:
    kinds = [plan.kind for plan in planned(model, device="cpu", precision="bf16")]
    assert kinds == ["onednn-bf16", "onednn", "plain"]


def test_a_processor_with_bf16_tries_it_without_being_asked(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "multiplies_bf16", lambda: True)
    assert [plan.kind for plan in planned(model, device="cpu")] == ["onednn", "plain"]
    model = replace(model, bf16=True)  # only where the model says that it may
    assert [(plan.kind, plan.optional) for plan in planned(model, device="cpu")] == [
        ("onednn-bf16", True),
        ("onednn", False),
        ("plain", False),
    ]
    exact = planned(model, device="cpu", precision="fp32")
    assert [plan.kind for plan in exact] == ["onednn", "plain"]


def test_bf16_that_was_asked_for_is_not_passed_over_in_silence(model: Model) -> None:
    assert not any(plan.optional for plan in planned(model, device="cpu", precision="bf16"))


def test_only_a_model_that_was_measured_in_bf16_runs_more_than_convolutions_in_it(
    model: Model,
) -> None:
    narrow = calls(planned(model, device="cpu", precision="bf16")[0])
    assert narrow["set_bfloat16_op"] == (OperatorSet(("fused_conv2d",)),)
    measured = replace(model, bf16=True)
    (wide,) = calls(planned(measured, device="cpu", precision="bf16")[0])["set_bfloat16_op"]
    assert isinstance(wide, OperatorSet)
    assert set(wide.names) > {"fused_conv2d", "concat", "bilinear_interp_v2"}


def test_a_plans_text_does_not_depend_on_the_process(model: Model) -> None:
    """Passed trials are remembered by it, and the order of a set is another one each time."""
    fast, *_ = planned(replace(model, bf16=True), device="cpu", precision="bf16")
    assert "{" not in repr(fast)


def test_a_gpu_plan_sets_the_device_number_and_memory_pool(model: Model) -> None:
    for plan in planned(model, device="gpu:2", gpu_memory_pool_mb=900):
        assert calls(plan)["enable_use_gpu"] == (900, 2)


def test_tensorrt_reads_the_shapes_and_engines_in_its_folder(model: Model, tmp_path: Path) -> None:
    wanted: dict[str, object] = {"device": "gpu:0", "tensorrt": True, "precision": "fp16"}
    wanted["engine_cache_dir"] = tmp_path
    settings = Settings.model_validate(wanted)
    of_pixels, building, _, plain = planned(model, **wanted)
    folder = engine_folder(settings, model, ())
    workspace, batch, _least, precision, static, calibrate = calls(building)[
        "enable_tensorrt_engine"
    ]
    assert (workspace, batch, static, calibrate) == (1 << 30, 16, True, False)
    assert getattr(precision, "name", None) == "Half"
    ranges = str(folder / "shapes.pbtxt")
    assert calls(building)["set_optim_cache_dir"] == (str(folder),)
    assert calls(building)["enable_tuned_tensorrt_dynamic_shape"] == (ranges, False)
    assert (building.device, building.precision) == ("gpu:0", "fp16")
    assert (plain.kind, plain.device, plain.precision) == ("cuda", "gpu:0", "fp32")
    noting = collecting(settings, model, folder / "shapes.pbtxt")
    assert calls(noting)["collect_shape_range_info"] == (ranges,)
    other = engine_folder(settings, model, (), of_pixels.graph)
    assert other != folder
    assert calls(of_pixels)["set_optim_cache_dir"] == (str(other),)
    # TensorRT has no uint8
    assert calls(of_pixels)["exp_disable_tensorrt_ops"] == ((FROM_BYTES, TO_BYTES),)
    assert "exp_disable_tensorrt_ops" not in calls(building)


def test_a_gpu_tries_the_program_for_pixels_before_the_model_s_own(
    model: Model, tmp_path: Path
) -> None:
    wanted: dict[str, object] = {"device": "gpu:0", "engine_cache_dir": tmp_path / "cache"}
    of_pixels, own = planned(model, **wanted)
    graph = pixel_graph(Settings.model_validate(wanted), model)
    assert graph is not None
    assert graph.is_relative_to(tmp_path / "cache")
    assert (of_pixels.graph, of_pixels.optional) == (graph, True)
    assert (own.graph, own.optional) == (None, False)
    assert calls(of_pixels) == calls(own)
    known = planned(model, **wanted, tensorrt=True)
    assert [(plan.kind, plan.takes_pixels, plan.optional) for plan in known] == [
        ("tensorrt", True, True),
        ("tensorrt", False, False),
        ("cuda", True, True),
        ("cuda", False, False),
    ]
    for device in ("cpu", "xpu:0", "npu:0"):
        assert not any(plan.takes_pixels for plan in planned(model, device=device))
    newer = replace(model, graph=model.graph.rename(model.graph.with_suffix(".json")))
    assert not any(plan.takes_pixels for plan in planned(newer, **wanted, tensorrt=True))


@pytest.mark.parametrize("name", ["LEAST_SPAN", "RULES", "Normalisation"])
def test_what_a_program_means_is_part_of_its_name(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = Settings(engine_cache_dir=tmp_path)
    before = pixel_graph(settings, model)
    assert pixel_graph(settings, model) == before
    other = Model if name == "Normalisation" else 0.5
    monkeypatch.setattr(pixel_program, name, other)
    assert pixel_graph(settings, model) != before


def test_everything_that_changes_engines_changes_their_folder(model: Model, tmp_path: Path) -> None:
    """Paddle's own names of engines only depend on the graph, the batch and the precision."""
    usual: dict[str, object] = {"device": "gpu:0", "tensorrt": True, "engine_cache_dir": tmp_path}

    def folder(inputs: tuple[tuple[int, Size], ...], **values: object) -> Path:
        return engine_folder(Settings.model_validate(usual | values), model, inputs)

    few: tuple[tuple[int, Size], ...] = ((1, (64, 64)),)
    folders = {
        folder(few),
        folder(((1, (64, 64)), (2, (64, 64)))),
        folder(few, precision="fp16"),
        folder(few, predict_batch_size=4),
    }
    assert len(folders) == 4
    assert folder(few) in folders
    model.params.write_bytes(b"other weights")
    again = Model("tiny", model.graph, model.params, ())
    assert engine_folder(Settings.model_validate(usual), again, few) not in folders


def test_every_device_is_checked_against_the_plain_cpu(model: Model) -> None:
    for values in ({"device": "gpu:1"}, {"device": "xpu:0"}, {"device": "npu:0"}, {}):
        plan = reference(Settings.model_validate(values), model)
        assert (plan.kind, plan.device, plan.precision) == ("plain", "cpu", "fp32")
        assert "disable_gpu" in calls(plan)


def test_xpu_and_npu_have_plans(model: Model) -> None:
    (xpu,) = planned(model, device="xpu:1")
    assert calls(xpu)["set_xpu_device_id"] == (1,)
    (npu,) = planned(model, device="npu:3")
    assert calls(npu)["enable_custom_device"] == ("npu", 3)


@pytest.mark.parametrize(
    "values",
    [
        {"device": "cpu", "precision": "int8"},
        {"device": "gpu:0", "precision": "fp16"},
        {"device": "xpu:0", "precision": "bf16"},
    ],
)
def test_a_precision_that_the_device_lacks_is_refused(
    model: Model, values: dict[str, object]
) -> None:
    with pytest.raises(EngineUnavailableError):
        planned(model, **values)


@pytest.mark.parametrize("device", ["gpu:0", "xpu:0", "npu:0"])
def test_an_error_names_the_package_for_a_device_that_paddle_lacks(device: str) -> None:
    settings = Settings.model_validate({"device": device})
    model = find_model(settings)
    with pytest.raises(EngineUnavailableError, match="paddle"):
        create(plans(settings, model, shapes=1)[0], model)


def test_a_setting_switches_profiling_on(model: Model) -> None:
    assert "enable_profile" in calls(planned(model, profile_engine=True)[0])
    assert "enable_profile" not in calls(planned(model)[0])


def test_onednn_resizes_only_with_half_pixel_resize(model: Model) -> None:
    settings = Settings(device="cpu")
    other = replace(model, half_pixel_resize=True)
    for one, expected in ((model, False), (other, True)):
        fast, plain = plans(settings, one, shapes=1)
        assert (ONEDNN_RESIZE in fast.calls) is expected
        assert ONEDNN_RESIZE not in plain.calls
    create(plans(Settings(), find_model(Settings()), shapes=1)[0], find_model(Settings()))
