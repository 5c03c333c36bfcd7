"""`matting models import`: ONNX networks become bundles that the predictor serves."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from deploy.cli import app
from deploy.models.lock import LOCK_FILE
from deploy.models.onnx_files import import_file
from shared.errors import (
    BadOnnxError,
    ImportDisagreesError,
    MattingError,
    ModelChangedError,
    UnsupportedOperatorError,
)
from shared.options import Profile
from shared.settings import Settings
from tests.onnx_graphs import network, node, red_matte, u2netp
from worker.imaging.prepared import restore
from worker.inference.catalog import SHIPPED, find_model
from worker.inference.importing.recipe import LIKE, Recipe
from worker.inference.predictor import load_predictor
from worker.inference.processor import multiplies_bf16
from worker.inference.published_models import PUBLISHED_ONNX

pytestmark = pytest.mark.filterwarnings("ignore")  # Paddle's exporter causes warnings

SMALL = Recipe((32, 48))


@pytest.fixture(scope="module", autouse=True)
def _paddle() -> None:
    """Import it in the main thread: Paddle builds graphs only where it was imported first."""
    import paddle  # noqa: F401


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    file = folder / "net.onnx"
    onnx.save(model, str(file))
    return file


def test_an_imported_network_runs_in_the_warm_predictor(
    tmp_path: Path, photo: NDArray[np.uint8]
) -> None:
    models = tmp_path / "models"
    new = import_file("red", saved(red_matte(), tmp_path), SMALL, models)
    assert new.imported.agreement.worst < 1e-5
    assert new.imported.agreement.onednn_fails is None
    assert new.imported.free_batch
    settings = Settings(model="red", models_dir=models, predict_batch_size=2)
    predictor = load_predictor(settings)
    assert predictor.describe()["configuration"] == "onednn"
    assert predictor.describe()["batch_sizes"] == [1, 2]
    for profile in Profile:
        prepared = predictor.prepare(photo, profile)
        for alpha in predictor.predict_many([prepared] * 3):
            assert not isinstance(alpha, MattingError), alpha
            whole = restore(alpha, prepared.steps)
            assert whole.shape == photo.shape[:2]
            assert whole[150, 200] > whole[5, 5] + 0.3
    predictor.close()


def test_fp16_weights_agree_to_within_two_levels(tmp_path: Path) -> None:
    new = import_file("red", saved(red_matte(half=True), tmp_path), SMALL, tmp_path / "models")
    assert 0 < new.imported.agreement.worst <= 2 / 255


def test_a_network_with_logits_needs_the_sigmoid_option(tmp_path: Path) -> None:
    file = saved(red_matte(logits=True), tmp_path)
    models = tmp_path / "models"
    with pytest.raises(BadOnnxError, match="--sigmoid"):
        import_file("red", file, SMALL, models)
    assert not (models / "red").exists()
    import_file("red", file, Recipe((32, 48), sigmoid=True), models)
    assert find_model(Settings(model="red", models_dir=models)).postprocess == ("Sigmoid",)
    other = saved(red_matte(), tmp_path)
    with pytest.raises(BadOnnxError, match="--no-sigmoid"):
        import_file("other", other, Recipe((32, 48), sigmoid=True), models)


def test_an_unknown_operator_is_named_before_anything_is_written(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "img w", "x"),
        node("Hardmax", "x", "y"),
        node("LpPool", "y", "alpha", kernel_shape=[1, 1]),
    ]
    weights = {"w": np.ones((1, 3, 1, 1), np.float32)}
    models = tmp_path / "models"
    with pytest.raises(UnsupportedOperatorError, match="Hardmax, LpPool") as caught:
        import_file("odd", saved(network(nodes, weights), tmp_path), SMALL, models)
    assert caught.value.code == "unsupported-operator"
    assert list(models.iterdir()) == []


def test_a_network_with_different_answers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.inference.importing.check.TOLERANCE", 1e-12)
    models = tmp_path / "models"
    with pytest.raises(ImportDisagreesError, match="differs from onnxruntime") as caught:
        import_file("red", saved(red_matte(), tmp_path), SMALL, models)
    assert caught.value.code == "import-disagrees"
    assert list(models.iterdir()) == []


def test_a_network_that_mixes_its_photos_takes_one_at_a_time(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "img w", "x"),
        node("ReduceMean", "x", "mean", axes=[0, 1, 2, 3], keepdims=1),
        node("Sub", "x mean", "y"),
        node("Sigmoid", "y", "alpha"),
    ]
    weights = {"w": np.ones((1, 3, 1, 1), np.float32)}
    models = tmp_path / "models"
    new = import_file("mix", saved(network(nodes, weights), tmp_path), SMALL, models)
    assert not new.imported.free_batch
    assert find_model(Settings(model="mix", models_dir=models)).one_at_a_time


@pytest.mark.parametrize(("size", "message"), [((16, 16), "32×48"), ((32, 48), "can't be read")])
def test_a_network_without_an_alpha_is_refused_with_a_reason(
    size: tuple[int, int], message: str, tmp_path: Path
) -> None:
    file = saved(red_matte(), tmp_path)
    if message == "can't be read":
        file.write_bytes(b"<html>")
    with pytest.raises(BadOnnxError, match=message):
        import_file("red", file, Recipe(size), tmp_path / "models")


def test_the_command_imports_and_lists_with_the_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTING_MODELS_DIR", str(tmp_path / "models"))
    file = saved(red_matte(), tmp_path)
    runner = CliRunner()
    given = ["models", "import", str(file), "--name", "red"]
    assert runner.invoke(app, given).exit_code == 2, "nobody guesses how a network is fed"
    assert runner.invoke(app, [*given, "--like", "resnet"]).exit_code == 2
    fed = ["--size", "32x48", "--mean", "0.5", "--std", "0.5,0.5,0.5", "--rescale", "max"]
    done = runner.invoke(app, [*given, *fed, "--stretch", "--licence", "CC0-1.0"])
    assert done.exit_code == 0, done.output
    assert "MATTING_MODEL=red" in done.output
    described = yaml.safe_load((tmp_path / "models" / "red" / "deploy.yaml").read_text())
    assert described["Deploy"]["input_shape"] == [-1, 3, 32, 48]
    assert described["Deploy"]["transforms"][-1]["divide_by_max"] is True
    assert described["Deploy"]["postprocess"] == [{"type": "Stretch"}]
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert described["Source"] == {"file": "net.onnx", "licence": "CC0-1.0", "sha256": sha256}
    assert sha256 in (tmp_path / "models" / "red" / "README.md").read_text()
    listed = json.loads(runner.invoke(app, ["models", "list", "--json"]).stdout)
    found = {one["model"]: one for one in listed}
    assert found["red"]["licence"] == "CC0-1.0"
    assert found["u2netp"]["licence"] == "Apache-2.0"
    assert found["birefnet-general"]["licence"] == "MIT"


def test_nothing_of_bria_is_offered() -> None:
    assert not [one for one in PUBLISHED_ONNX.values() if "rmbg" in (one.name + one.file).lower()]
    assert all(one.like in LIKE for one in PUBLISHED_ONNX.values())


def test_a_pulled_u2netp_is_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "u2netp.onnx"
    file.write_bytes(u2netp())
    models = tmp_path / "models"
    monkeypatch.setenv("MATTING_MODELS_DIR", str(models))
    done = CliRunner().invoke(app, ["models", "pull", "u2netp", "--from", str(file)])
    assert done.exit_code == 0, done.output
    locked = json.loads((models / LOCK_FILE).read_text())["u2netp"]
    assert locked["bytes"] == len(file.read_bytes())
    assert locked["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert locked["licence"] == "Apache-2.0"
    ours = find_model(Settings(model="u2netp", models_dir=tmp_path / "none"))
    assert ours.graph.parent == SHIPPED["u2netp"]
    pulled = find_model(Settings(model="u2netp", models_dir=models))
    assert pulled.graph.parent == models / "u2netp"
    assert pulled.fingerprint == ours.fingerprint
    assert pulled.bf16 is multiplies_bf16()


def test_the_shipped_u2netp_cuts_out_a_photo_of_any_ratio(photo: NDArray[np.uint8]) -> None:
    predictor = load_predictor(Settings(model="u2netp"))
    assert predictor.describe()["shapes"] == ["320x320"]
    prepared = predictor.prepare(photo[:, 80:320], Profile.FAST)
    assert prepared.content == 1
    (alpha,) = predictor.predict_many([prepared])
    predictor.close()
    assert not isinstance(alpha, MattingError), alpha
    whole = restore(alpha, prepared.steps)
    assert whole.shape == photo[:, 80:320].shape[:2]
    assert whole[150, 120] > 0.9
    assert whole[5, 5] < 0.1


def test_a_file_that_is_not_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(red_matte(), tmp_path)
    monkeypatch.setenv("MATTING_MODELS_DIR", str(tmp_path / "models"))
    result = CliRunner().invoke(app, ["models", "pull", "u2net", "--from", str(file)])
    assert isinstance(result.exception, ModelChangedError)
    assert "MD5" in str(result.exception)
    assert not (tmp_path / "models" / LOCK_FILE).exists()
