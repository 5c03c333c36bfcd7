"""Steps in deploy.yaml beyond PaddleSeg's own: what they compute, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from shared.errors import UnsupportedTransformError
from worker.inference.catalog import BUNDLES, SHIPPED, read_export
from worker.inference.postprocess import checked_postprocess, sigmoid, stretch
from worker.inference.shapes import ShapeGrid
from worker.inference.transforms import ExactTransforms, Normalisation


def test_a_photo_is_divided_by_its_own_largest_value() -> None:
    image = np.full((4, 5, 3), 40, np.uint8)
    image[0, 0] = (80, 20, 60)
    normalisation = Normalisation((0.5, 0.4, 0.3), (0.5, 0.2, 0.1), divide_by_max=True)
    (tensor,) = normalisation.apply(image[None])
    assert tensor.shape == (3, 4, 5)
    expected = (np.array([80, 20, 60]) / 80 - [0.5, 0.4, 0.3]) / [0.5, 0.2, 0.1]
    np.testing.assert_allclose(tensor[:, 0, 0], expected, rtol=1e-5)


def test_a_black_photo_is_not_divided_by_zero() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert np.isfinite(Normalisation(divide_by_max=True).apply(black[None])).all()


def test_the_sigmoid_is_exact_and_never_overflows() -> None:
    x = np.array([[[-500, -2, 0, 2, 500]]], np.float32)
    with np.errstate(all="raise"):
        found = sigmoid(x)
    np.testing.assert_allclose(found[0, 0, 1:4], 1 / (1 + np.exp([2, 0, -2])), atol=1e-6)
    assert (found[0, 0, 0], found[0, 0, 4]) == (0, 1)


def test_each_photo_of_a_batch_is_stretched_by_itself() -> None:
    batch = np.array([[[0.2, 0.4], [0.6, 0.3]], [[5, 5], [5, 5]]], np.float32)
    found = stretch(batch)
    np.testing.assert_allclose(found[0], [[0, 0.5], [1, 0.25]], atol=1e-6)
    assert (found[1] == 0).all()


def test_the_noise_of_an_empty_photo_is_not_stretched() -> None:
    noise = np.random.default_rng(1).uniform(0.001, 0.16, (1, 8, 8)).astype(np.float32)
    assert stretch(noise).max() < 0.16
    assert stretch(noise + np.eye(8, dtype=np.float32) * 0.8).max() == 1


@pytest.mark.parametrize(
    "steps", ["Sigmoid", [{"type": "Softmax"}], [{"type": "Stretch", "to": 1}], [3], {"type": "x"}]
)
def test_an_unknown_step_after_the_network_is_refused(steps: object, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTransformError):
        checked_postprocess(steps)
    export = tmp_path / "export"
    export.mkdir()
    for name in ("model.pdmodel", "model.pdiparams"):
        (export / name).symlink_to(BUNDLES / "builtin" / name)
    known = yaml.safe_load((BUNDLES / "builtin" / "deploy.yaml").read_text())
    known["Deploy"]["postprocess"] = steps
    (export / "deploy.yaml").write_text(yaml.safe_dump(known))
    with pytest.raises(UnsupportedTransformError):
        read_export(export, "x")


@pytest.mark.parametrize(
    "wrong", [{"divide_by_max": "yes"}, {"divide_by_max": 1}, {"std": [1, 0, 1]}, {"std": [1]}]
)
def test_an_unknown_normalisation_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UnsupportedTransformError):
        ExactTransforms([{"type": "Normalize", **wrong}])


def test_every_step_that_changes_alpha_changes_the_fingerprint(tmp_path: Path) -> None:
    seen: set[str] = set()
    for steps, mean in (([], 0.5), ([{"type": "Stretch"}], 0.5), ([], 0.4)):
        known = yaml.safe_load((BUNDLES / "builtin" / "deploy.yaml").read_text())
        known["Deploy"]["postprocess"] = steps
        known["Deploy"]["transforms"][-1]["mean"] = [mean] * 3
        export = tmp_path / f"{len(seen)}"
        export.mkdir()
        for name in ("model.pdmodel", "model.pdiparams"):
            (export / name).symlink_to(BUNDLES / "builtin" / name)
        (export / "deploy.yaml").write_text(yaml.safe_dump(known))
        seen.add(read_export(export, "x").fingerprint)
    assert len(seen) == 3


def test_a_network_that_was_trained_on_squeezed_photos_gets_no_padding() -> None:
    model = read_export(SHIPPED["u2netp"], "u2netp")
    assert model.fixed_shape == (320, 320)
    assert not model.one_at_a_time
    transforms = ExactTransforms(model.transforms)
    assert transforms.squeezes
    grid = ShapeGrid((model.fixed_shape,), squeeze=transforms.squeezes)
    prepared = grid.prepare(np.zeros((90, 700, 3), np.uint8))
    assert prepared.shape == (320, 320)
    assert prepared.content == 1.0
    assert not ExactTransforms(read_export(SHIPPED["builtin"], "builtin").transforms).squeezes


def test_a_shipped_network_keeps_its_licence_beside_its_weights() -> None:
    folder = SHIPPED["u2netp"]
    source = yaml.safe_load((folder / "deploy.yaml").read_text())["Source"]
    assert source["licence"] == "Apache-2.0"
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert source["sha256"] in (folder / "README.md").read_text()
