"""A plan that passed its trial is not tried again, until something changes that the trial saw."""

import os
from pathlib import Path
from typing import Any

import pytest

from shared.settings import Settings
from worker.imaging.arrays import Size
from worker.inference import trial_memory
from worker.inference.catalog import Model, find_model
from worker.inference.engine import one_stream, plans, streams
from worker.inference.paddle_runtime import VARIABLES
from worker.inference.trial_memory import passed_before, remember

SHAPES: list[Size] = [(384, 384), (512, 512)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "matting" / "trials"


def asked(**settings: Any) -> tuple[Settings, Model]:
    made = Settings.model_validate({"cpu_threads": 1, **settings})
    return made, find_model(made)


def known(settings: Settings, model: Model, shapes: list[Size] = SHAPES) -> int | None:
    return passed_before(settings, model, plans(settings, model, shapes=9)[0], shapes)


def test_a_passed_trial_is_remembered_with_its_shape() -> None:
    settings, model = asked()
    assert known(settings, model) is None
    remember(settings, model, plans(settings, model, shapes=9)[0], SHAPES, 1)
    assert known(settings, model) == 1


def test_one_network_for_few_photos_needs_no_trial_of_its_own() -> None:
    settings, model = asked(cpu_threads=6)
    remember(settings, model, plans(settings, model, shapes=9)[0], SHAPES, 1)
    few = one_stream(settings)
    assert (streams(settings), streams(few)) == (4, 1)
    assert known(few, model) == 1
    for same in ({"predict_streams": 3}, {"device": "gpu:0"}):
        values = Settings.model_validate(same)
        assert one_stream(values) is values


def test_whatever_the_trial_saw_makes_it_another(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, model = asked()
    remember(settings, model, plans(settings, model, shapes=9)[0], SHAPES, 0)
    assert known(*asked(cpu_threads=2, predict_streams=1)) is None
    assert known(*asked(precision="bf16")) is None
    assert known(*asked(model="u2netp")) is None
    assert known(*asked(alpha_tolerances={"fp32": 0.001})) is None
    assert known(settings, model, SHAPES[:1]) is None
    with monkeypatch.context() as patch:
        patch.setattr(trial_memory, "description", lambda: ("another",))
        assert known(settings, model) is None
    with monkeypatch.context() as patch:
        patch.setattr(trial_memory, "_versions", lambda: ["paddlepaddle 9"])
        assert known(settings, model) is None
    with monkeypatch.context() as patch:
        patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        assert known(settings, model) is None
    assert known(settings, model) == 0


def test_a_trial_is_found_whether_or_not_another_model_has_loaded_the_library_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, model = asked()
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    remember(settings, model, plans(settings, model, shapes=9)[0], SHAPES, 0)
    for name, value in VARIABLES.items():  # as loading it does
        monkeypatch.setenv(name, value)
    assert known(settings, model) == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # as an operator does
    assert known(settings, model) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"shape": null}', '{"shape": 7}'])
def test_a_damaged_note_is_as_none(cache: Path, content: str) -> None:
    settings, model = asked()
    remember(settings, model, plans(settings, model, shapes=9)[0], SHAPES, 0)
    (note,) = cache.iterdir()
    note.write_text(content)
    assert known(settings, model) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    settings, model = asked(engine_cache_dir=blocked)
    remember(settings, model, plans(settings, model, shapes=9)[0], SHAPES, 0)
    assert known(settings, model) is None


def test_a_user_without_a_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 3)  # /etc/passwd has no such user
    with pytest.raises(RuntimeError):
        Path.home()
    settings, model = asked()
    remember(settings, model, plans(settings, model, shapes=9)[0], SHAPES, 0)
    assert known(settings, model) is None


def test_another_device_is_tried_at_each_start(cache: Path) -> None:
    settings, model = asked(device="gpu:0", tensorrt=False)
    for plan in plans(settings, model, shapes=9):
        remember(settings, model, plan, SHAPES, 0)
        assert passed_before(settings, model, plan, SHAPES) is None
    assert not cache.exists()
