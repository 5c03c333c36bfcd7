"""`matting tune`, and how a worker uses its file."""

import json
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deploy.cli import app
from shared.errors import OutOfMemoryError, SetupError
from shared.settings import Settings
from worker.inference.sweep import NEAR, SweepResult, choose, combinations
from worker.inference.tuning import batch_sizes, write_tuned

SHAPE = (64, 64)


def cell(streams: int, batch: int, rate: float, p99_ms: float) -> SweepResult:
    return SweepResult(streams, 2, batch, SHAPE, rate, p99_ms / 2, p99_ms)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tune_file=tmp_path / "tune.json", cpu_threads=4)


def test_the_command_leaves_a_table_a_picture_and_a_file_that_the_worker_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.inference.sweep.CPU_BATCHES", (1, 2))
    monkeypatch.setattr("worker.inference.sweep.MIN_BATCHES", 2)
    monkeypatch.setenv("MATTING_TUNE_FILE", str(tmp_path / "models" / "tune.json"))
    done = CliRunner().invoke(app, ["tune", "--measure-s", "0.01"])
    assert done.exit_code == 0, done.output
    picture = cv2.imread(str(tmp_path / "models" / "tune.png"))
    assert picture is not None
    assert picture.std() > 10
    found = json.loads((tmp_path / "models" / "tune.json").read_text())["cpu"]["builtin"]
    tuned = batch_sizes(Settings())
    assert tuned.predict_streams == found["predict_streams"]
    assert tuned.predict_batch_size == found["predict_batch_size"] in (1, 2)
    assert found["images_per_s"] > 0


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(
    settings: Settings,
) -> None:
    usual = batch_sizes(settings)
    assert (usual.batch_size, usual.predict_batch_size, usual.predict_streams) == (8, 1, None)
    write_tuned(
        settings.effective_tune_file,
        settings,
        {"batch_size": 24, "predict_batch_size": 4, "predict_streams": 2},
    )
    tuned = batch_sizes(settings)
    assert (tuned.batch_size, tuned.predict_batch_size, tuned.predict_streams) == (24, 4, 2)
    told = batch_sizes(settings.model_copy(update={"predict_batch_size": 1}))
    assert (told.batch_size, told.predict_batch_size) == (24, 1)


def test_a_file_holds_several_models_and_devices(settings: Settings) -> None:
    path = settings.effective_tune_file
    other = settings.model_copy(update={"model": "ppmattingv2"})
    write_tuned(path, settings, {"batch_size": 24})
    write_tuned(path, other, {"batch_size": 12})
    assert batch_sizes(settings).batch_size == 24
    assert batch_sizes(other).batch_size == 12
    assert batch_sizes(settings.model_copy(update={"device": "gpu:0"})).batch_size == 32


def test_a_result_for_another_number_of_cores_is_ignored(settings: Settings) -> None:
    write_tuned(settings.effective_tune_file, settings, {"batch_size": 24})
    assert batch_sizes(settings.model_copy(update={"cpu_threads": 64})).batch_size == 8


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"cpu": []}', '{"cpu": {"builtin": {"cores": 4, "batch_size": "many"}}}']
)
def test_an_invalid_tuning_file_stops_the_start_with_a_clear_error(
    settings: Settings, text: str
) -> None:
    settings.effective_tune_file.write_text(text)
    with pytest.raises(SetupError, match="matting tune"):
        batch_sizes(settings)


def test_for_equal_throughput_the_shorter_latency_wins() -> None:
    cells = [cell(1, 1, 96, 20), cell(1, 16, 100, 300), cell(2, 1, 60, 10)]
    assert (choose(cells).streams, choose(cells).batch) == (1, 1)


def test_a_batch_too_large_for_the_device_is_not_chosen() -> None:
    assert choose([cell(1, 1, 50, 20), cell(1, 64, 0, 0)]).batch == 1
    with pytest.raises(OutOfMemoryError):
        choose([cell(1, 1, 0, 0)])


@given(
    st.dictionaries(
        st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4, 8])),
        st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)),
        min_size=1,
    )
)
def test_the_choice_loses_no_more_throughput_than_documented(
    measured: dict[tuple[int, int], tuple[float, float]],
) -> None:
    cells = [cell(*key, *value) for key, value in measured.items()]
    chosen = choose(cells)
    assert chosen.images_per_s >= (1 - NEAR) * max(one.images_per_s for one in cells) * 0.999
    assert (chosen.streams, chosen.batch) in measured


def test_streams_never_outnumber_the_threads(settings: Settings) -> None:
    assert {streams for streams, _ in combinations(settings)} == {1, 2, 4}
    assert {streams for streams, _ in combinations(Settings(cpu_threads=1))} == {1}
