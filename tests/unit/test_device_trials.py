"""Accelerators that no test machine has, with a stand-in for Paddle.

The tests show which engines are tried, built, compared, used and reported. They can't show what
TensorRT and the devices themselves do.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import EngineUnavailableError, ModelLoadError, PredictorError, WarmupError
from shared.settings import Settings
from tests.captured_events import captured_events
from tests.waiting import eventually, is_dead
from worker.inference import predictor, tensorrt
from worker.inference.catalog import BUNDLES, find_model
from worker.inference.engine import plans, reference
from worker.inference.opening import require_device
from worker.inference.paddle_runtime import THREAD_SPIN_MS
from worker.inference.predictor import load_predictor
from worker.inference.session import RangedSession
from worker.inference.tensorrt import build_once, engine_folder
from worker.inference.trial import try_plan

STUB = Path(__file__).parent / "paddle_stub"

WORKER = """
import json, sys
from shared.settings import Settings
from worker.inference.predictor import load_predictor
opened = load_predictor(Settings.model_validate(json.loads(sys.argv[1])))
print(json.dumps(opened.describe()))
"""

Says = Callable[..., None]


def loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "paddle"]


@pytest.fixture
def paddle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Says]:
    """Replace Paddle by the stand-in, here and in child processes. The fixture is a function that
    sets its behaviour.
    """
    for name in loaded():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(STUB))
    monkeypatch.setenv("PYTHONPATH", f"{STUB}{os.pathsep}{os.getcwd()}")

    def says(**asked: Any) -> None:
        monkeypatch.setenv("PADDLE_STUB", json.dumps(asked))

    says()
    yield says
    for name in loaded():  # other tests use the real Paddle
        del sys.modules[name]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An exported model. The stand-in does not read it."""
    return shutil.copytree(BUNDLES / "builtin", tmp_path / "model")


@pytest.fixture
def gpu(model: Path, tmp_path: Path) -> dict[str, Any]:
    """The settings of the GPU image, with a cache folder that does not exist yet."""
    return {
        "model": str(model),
        "device": "gpu:0",
        "tensorrt": True,
        "precision": "fp16",
        "predict_batch_size": 2,
        "engine_cache_dir": tmp_path / "models" / "engines",
    }


def described(values: dict[str, Any]) -> dict[str, Any]:
    opened = load_predictor(Settings.model_validate(values))
    opened.close()
    return opened.describe()


def passed_over(events: list[Any]) -> str:
    """Why the program for pixels was not used."""
    [event] = [one for one in events if one["event"] == "engine-passed-over"]
    return str(event["reason"])


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_tensorrt_creates_its_folder_builds_once_and_reports_its_share(
    paddle: Says, gpu: dict[str, Any], tmp_path: Path
) -> None:
    paddle(subgraphs=[120, 14], builds=str(tmp_path / "builds"), error={"tensorrt": 0.01})
    for _ in range(2):
        known = described(gpu)
        assert (known["configuration"], known["device"], known["precision"]) == (
            "tensorrt",
            "gpu:0",
            "fp16",
        )
        assert known["tensorrt"] == {"engines": 2, "operators": 134}
        assert known["fallback"] is None
        assert known["pixels"]
    assert len((tmp_path / "builds").read_text().splitlines()) == 2
    names = files_in(gpu["engine_cache_dir"])
    assert [name for name in names if not name.endswith(".lock")] == [
        "model.pdmodel",
        "sha256",
        "shapes.pbtxt",
        "trt_serialized_0",
        "trt_serialized_1",
    ]


def test_workers_that_start_together_build_one_set_of_engines(
    paddle: Says, gpu: dict[str, Any], tmp_path: Path
) -> None:
    paddle(subgraphs=[50, 20, 9], builds=str(tmp_path / "builds"))
    settings = Settings.model_validate(gpu)
    warm = [(1, (64, 64)), (2, (64, 96))]
    plan, *_ = plans(settings, find_model(settings), shapes=4, warm=warm)
    with ThreadPoolExecutor(4) as workers:
        results = list(workers.map(lambda _: try_plan(settings, plan, [(64, 64)], warm), range(4)))
    assert [one.reason for one in results] == [None] * 4
    assert len((tmp_path / "builds").read_text().splitlines()) == 3


def test_another_model_of_gpu_gets_engines_of_its_own(
    gpu: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.model_validate(gpu)
    folders = []
    for number, name in enumerate(("NVIDIA A", "NVIDIA B", "NVIDIA A")):
        driver = tmp_path / str(number)
        for bus in ("0000:01:00.0", "0000:02:00.0"):
            (driver / bus).mkdir(parents=True)
            (driver / bus / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 24\n")
        monkeypatch.setattr(tensorrt, "GPUS", driver)
        folders.append(engine_folder(settings, find_model(settings), [(1, (64, 64))]))
    assert folders[0] == folders[2] != folders[1]


def test_a_build_that_crashed_leaves_nothing_and_the_next_start_builds(
    paddle: Says, gpu: dict[str, Any], tmp_path: Path
) -> None:
    paddle(subgraphs=[50], crash="tensorrt")
    known = described(gpu)
    assert (known["configuration"], known["precision"], known["tensorrt"]) == ("cuda", "fp32", None)
    assert known["fallback"] == "tensorrt (fp16) was not used: it crashed with signal 6"
    paddle(subgraphs=[50])
    assert described(gpu)["configuration"] == "tensorrt"
    assert not list(gpu["engine_cache_dir"].rglob("*.part-*"))


@pytest.mark.parametrize(
    ("stub", "reason"),
    [
        ({"subgraphs": []}, "TensorRT took no part of the graph"),
        ({"without": ["tensorrt"]}, "The installed Paddle was built without TensorRT"),
        ({"subgraphs": [9], "error": {"tensorrt": 0.04}}, "0.040 away on average"),
    ],
)
def test_tensorrt_that_fails_is_neither_used_nor_reported(
    paddle: Says, gpu: dict[str, Any], stub: dict[str, Any], reason: str
) -> None:
    paddle(**stub)
    known = described(gpu)
    assert (known["configuration"], known["precision"]) == ("cuda", "fp32")
    assert reason in known["fallback"]
    with pytest.raises((WarmupError, EngineUnavailableError), match=re.escape(reason)):
        load_predictor(Settings.model_validate(gpu | {"engine_fallback": "none"}))


def test_int8_that_crashes_is_left_for_fp32(paddle: Says, gpu: dict[str, Any]) -> None:
    paddle(subgraphs=[50], crash="tensorrt")
    known = described(gpu | {"precision": "int8"})
    assert (known["configuration"], known["precision"], known["tensorrt"]) == ("cuda", "fp32", None)
    assert known["fallback"] == "tensorrt (int8) was not used: it crashed with signal 6"


def test_an_export_with_a_fixed_input_builds_engines_of_that_shape_alone(
    paddle: Says, gpu: dict[str, Any], model: Path
) -> None:
    deploy = (model / "deploy.yaml").read_text()
    free = "input_shape:\n  - -1\n  - 3\n  - -1\n  - -1\n"
    assert free in deploy
    fixed = "input_shape:\n  - 1\n  - 3\n  - 128\n  - 96\n"
    (model / "deploy.yaml").write_text(deploy.replace(free, fixed))
    paddle(subgraphs=[50])
    known = described(gpu)
    assert (known["configuration"], known["fallback"]) == ("tensorrt", None)
    [ranges] = gpu["engine_cache_dir"].rglob("shapes.pbtxt")
    assert re.fullmatch(r"\[(\(1, 128, 96, 3\)(, )?)+\] end", ranges.read_text())


def test_tensorrt_is_not_tried_for_a_json_graph(
    paddle: Says, gpu: dict[str, Any], model: Path
) -> None:
    paddle(subgraphs=[100])
    (model / "model.pdmodel").rename(model / "model.json")
    known = described(gpu)
    assert (known["configuration"], known["precision"]) == ("cuda", "fp32")
    assert "does nothing for .json graphs" in known["fallback"]
    assert not gpu["engine_cache_dir"].exists()


@pytest.mark.parametrize("tensorrt", [True, False])
@pytest.mark.parametrize(
    ("stub", "reason"),
    [
        ({"error": {"cpu pixels": 0.03}}, "levels of 255 away"),
        ({"error": {"cuda pixels": 0.03, "tensorrt pixels": 0.03}}, "0.030 away on average"),
        ({"inputs": 2}, "It has 2 inputs"),
        ({"mixes": True}, "levels of 255 away"),
        ({"rank": 2}, "Its answer has 2 dimensions"),
        ({"refuses": "cpu pixels"}, "Paddle can't open the program for pixels: Unsupported"),
    ],
)
def test_a_program_for_pixels_that_fails_is_left_for_the_model_s_own(
    paddle: Says,
    gpu: dict[str, Any],
    stub: dict[str, Any],
    reason: str,
    tensorrt: bool,
) -> None:
    paddle(subgraphs=[50], **stub)
    asked = gpu if tensorrt else gpu | {"tensorrt": False, "precision": "fp32"}
    asked |= {"alpha_tolerances": {"fp16": 0.01}}
    for fallback in ("cpu", "none"):
        with captured_events(predictor) as events:
            known = described(asked | {"engine_fallback": fallback})
        assert known["configuration"] == ("tensorrt" if tensorrt else "cuda")
        assert (known["pixels"], known["fallback"]) == (False, None)
        assert reason in passed_over(events)


def test_a_program_that_failed_is_not_tried_at_the_next_start(
    paddle: Says, gpu: dict[str, Any]
) -> None:
    asked = gpu | {"tensorrt": False, "precision": "fp32"}
    paddle(mixes=True)
    assert not described(asked)["pixels"]
    paddle()  # it would pass now
    with captured_events(predictor) as events:
        assert not described(asked)["pixels"]
    reason = passed_over(events)
    assert "levels of 255 away" in reason
    assert "to have it tried again" in reason
    for file in (gpu["engine_cache_dir"] / "trials").glob("*.json"):
        file.unlink()
    assert described(asked)["pixels"]


def test_workers_that_start_together_fail_one_trial(
    paddle: Says, gpu: dict[str, Any], tmp_path: Path
) -> None:
    paddle(mixes=True, programs=str(tmp_path / "programs"))
    asked = {**gpu, "tensorrt": False, "precision": "fp32"}
    command = [sys.executable, "-c", WORKER, json.dumps(asked, default=str)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [json.loads(one.communicate()[0].splitlines()[-1]) for one in workers]
    assert [(one["configuration"], one["pixels"]) for one in told] == [("cuda", False)] * 3
    assert len((tmp_path / "programs").read_text().splitlines()) == 1


def test_a_trial_ends_with_its_worker(paddle: Says, gpu: dict[str, Any], tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    paddle(hangs="cuda", programs=str(programs))
    asked = {**gpu, "tensorrt": False, "precision": "fp32"}
    command = [sys.executable, "-c", WORKER, json.dumps(asked, default=str)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as worker:
        eventually(programs.exists, "the trial")
        child = eventually(programs.read_text, "its number")
        worker.kill()
    eventually(lambda: is_dead(Path("/proc", child.strip())), "the end of the trial")


def test_a_program_that_cannot_be_kept_is_not_used(
    paddle: Says, gpu: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "models").write_text("a file")
    known = described(gpu | {"tensorrt": False, "precision": "fp32"})
    assert (known["configuration"], known["pixels"]) == ("cuda", False)
    assert known["fallback"] is None


def test_workers_that_start_together_write_one_program(paddle: Says, gpu: dict[str, Any]) -> None:
    settings = Settings.model_validate(gpu | {"tensorrt": False, "precision": "fp32"})
    model = find_model(settings)
    plan, _ = plans(settings, model, shapes=4)
    assert plan.graph is not None
    plan.graph.parent.parent.mkdir(parents=True)
    left = plan.graph.parent.parent / f"{plan.graph.parent.name}.part-crashed"
    left.mkdir()
    with ThreadPoolExecutor(4) as workers:
        results = list(workers.map(lambda _: try_plan(settings, plan, [(64, 64)], []), range(4)))
    assert [one.reason for one in results] == [None] * 4
    assert plan.graph.read_bytes() == b"pixels"
    assert not left.exists()


def test_what_is_kept_is_used_by_those_who_cannot_write_there(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    kept.with_suffix(".lock").mkdir()  # nobody can open it for writing, the superuser neither
    build_once(kept, lambda _: pytest.fail("it is there"))


def test_what_another_user_left_behind_stops_no_build(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.part-crashed"
    theirs.mkdir()
    (tmp_path / "theirs.lock").mkdir()
    build_once(tmp_path / "own", lambda part: part.joinpath("made").touch())
    assert (tmp_path / "own" / "made").exists()
    assert theirs.exists()


def test_an_error_names_the_folder_that_cannot_be_created(
    paddle: Says, gpu: dict[str, Any], tmp_path: Path
) -> None:
    paddle(subgraphs=[100])
    (tmp_path / "models").write_text("a file")
    known = described(gpu)
    assert known["configuration"] == "cuda"
    assert "MATTING_ENGINE_CACHE_DIR" in known["fallback"]


@pytest.mark.parametrize(
    ("device", "kind"), [("gpu:0", "cuda"), ("xpu:0", "xpu"), ("npu:0", "npu")]
)
def test_a_device_whose_mattes_differ_from_the_cpu_s_is_refused(
    paddle: Says, model: Path, device: str, kind: str
) -> None:
    paddle(error={kind: 0.03})
    wanted = {"model": str(model), "device": device, "predict_batch_size": 1}
    with pytest.raises(WarmupError, match=r"not the CPU's: 0\.030 away on average"):
        load_predictor(Settings.model_validate(wanted))


def test_settings_set_the_allowed_difference_of_a_device(paddle: Says, model: Path) -> None:
    wanted: dict[str, Any] = {"model": str(model), "device": "gpu:0", "predict_batch_size": 1}
    paddle(error={"cuda": 0.03})
    known = described(wanted | {"alpha_tolerances": {"fp32": 0.05}})
    assert (known["device"], known["fallback"]) == ("gpu:0", None)
    known = described(wanted | {"engine_fallback": "cpu"})
    assert known["device"] == "cpu"
    assert known["configuration"] in ("onednn", "onednn-bf16")  # the processor decides
    assert "gpu:0 was not used" in known["fallback"]


@pytest.mark.parametrize("device", ["gpu:0", "xpu:0", "npu:0"])
def test_a_missing_device_stops_the_start(paddle: Says, model: Path, device: str) -> None:
    paddle(without=["cuda", "xpu", "npu"])
    with pytest.raises(EngineUnavailableError, match="paddle"):
        load_predictor(Settings.model_validate({"model": str(model), "device": device}))


def test_a_model_that_is_replaced_while_it_is_loaded_stops_the_start(
    paddle: Says, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = predictor.Predictor._choose_plan

    def choose_and_replace(self: Any) -> Any:
        plan = choose(self)
        fresh = shutil.copytree(model, tmp_path / "fresh")
        (fresh / "model.pdiparams").write_bytes(b"other weights")
        model.rename(tmp_path / "old")  # as `matting models pull` does
        fresh.rename(model)
        return plan

    asked = Settings.model_validate({"model": str(model), "device": "gpu:0", "tensorrt": False})
    with monkeypatch.context() as patch:
        patch.setattr(predictor.Predictor, "_choose_plan", choose_and_replace)
        with pytest.raises(ModelLoadError, match="was replaced while it was loaded"):
            load_predictor(asked)
    load_predictor(asked).close()


def test_thread_variables_are_set_before_paddle_is_loaded(
    paddle: Says, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    settings = Settings.model_validate({"model": str(model), "device": "gpu:0"})
    found = find_model(settings)
    require_device(reference(settings, found))
    assert "paddle" not in sys.modules, "a CPU needs no look at what it was built with"
    require_device(plans(settings, found, shapes=1)[-1])
    assert str(THREAD_SPIN_MS) == sys.modules["paddle"].SPIN_MS


def test_shapes_without_a_built_engine_use_another_session() -> None:
    class Noting:
        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            self.shapes.append(batch.shape)
            return batch[:, 0]

    built, other = Noting(), Noting()
    opened: list[Noting] = []

    def open_other() -> Noting:
        opened.append(other)
        return other

    session = RangedSession(built, [(1, (64, 96)), (4, (96, 64))], open_other)
    for shape in [(1, 3, 64, 64), (4, 3, 96, 96), (2, 3, 80, 64)]:
        session.run(np.zeros(shape, np.float32))
    assert len(built.shapes) == 3
    assert opened == []
    for shape in [(5, 3, 64, 64), (1, 3, 32, 64), (1, 3, 64, 128)]:
        session.run(np.zeros(shape, np.float32))
    assert len(other.shapes) == 3
    assert len(opened) == 1
    session.run(np.zeros((2, 80, 64, 3), np.uint8))
    session.run(np.zeros((2, 80, 128, 3), np.uint8))
    assert (len(built.shapes), len(other.shapes)) == (4, 4)

    def no_memory() -> Noting:
        raise ModelLoadError("no memory")

    session = RangedSession(built, [(1, (64, 96))], no_memory)
    with pytest.raises(PredictorError, match="no memory"):
        session.run(np.zeros((2, 3, 64, 96), np.float32))
