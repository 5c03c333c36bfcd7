"""`matting models verify`: a model is measured on photos with true alphas."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import PairsNotFoundError
from tests.acceptance.command import matting


@pytest.fixture
def pairs(tmp_path: Path, photo: NDArray[np.uint8]) -> Path:
    """Two photos of a disc with their alphas, in the usual layout of matting data sets."""
    truth = np.zeros(photo.shape[:2], np.uint8)
    cv2.circle(truth, (200, 150), 90, 255, -1, cv2.LINE_AA)
    for name in ("one", "two"):
        for folder, suffix, plane in (
            ("images", "jpg", photo[..., ::-1]),
            ("alphas", "png", truth),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{name}.{suffix}"), plane)
    return tmp_path


def test_the_built_in_model_is_measured_on_a_folder_of_pairs(pairs: Path) -> None:
    run = matting("models", "verify", str(pairs), "--json", "--worst", "1")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert (result["model"], result["images"]) == ("builtin", 2)
    assert result["iou"] > 0.9
    assert result["mae"] < 0.05
    assert set(result) >= {"sad", "mse", "grad", "conn", "images_per_s"}
    assert result["worst"][0]["name"] in ("one.jpg", "two.jpg")


def test_photos_and_alphas_may_be_in_one_folder(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    from deploy.models.verify import find_pairs

    cv2.imwrite(str(tmp_path / "a.jpg"), photo)
    cv2.imwrite(str(tmp_path / "a-alpha.png"), photo[..., 0])
    cv2.imwrite(str(tmp_path / "lonely.jpg"), photo)
    assert find_pairs(tmp_path) == [(tmp_path / "a.jpg", tmp_path / "a-alpha.png")]
    with pytest.raises(PairsNotFoundError):
        find_pairs(tmp_path / "..")


def test_a_folder_without_pairs_says_how_to_name_them(tmp_path: Path) -> None:
    run = matting("models", "verify", str(tmp_path))
    assert run.returncode == 2
    assert "pairs-not-found" in run.stderr
