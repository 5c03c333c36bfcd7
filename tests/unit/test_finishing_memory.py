"""Finishing works in blocks: what a photo takes does not grow with what is asked, and no pixel
depends on the blocks.
"""

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest

from shared.options import Options
from worker.imaging import edge_colours, samples
from worker.imaging.arrays import Alpha, Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.finishing import FinishedFile, finish
from worker.imaging.prepared import PreparedImage

WIDTH, HEIGHT = 1_800, 1_200

ON_WHITE = {"format": "jpeg", "background": "#ffffff"}
GRADIENT = {"format": "jpeg", "background": {"gradient": ["#ffffff", "#404040"], "angle_deg": 30}}
ASKED: list[dict[str, Any]] = [
    {},
    ON_WHITE,
    GRADIENT,
    {"edge_reach": 0.02},
    {"shadow": "drop"},
    {"shadow": "contact", **GRADIENT},
]


def photo() -> Image:
    coarse = np.random.default_rng(1).integers(0, 256, (150, 225, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def smoke() -> Alpha:
    """An alpha that is neither 0 nor 1 in most places."""
    coarse = np.random.default_rng(2).random((12, 12), np.float32)
    return cv2.resize(coarse, (384, 384), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def finished(asked: dict[str, Any]) -> FinishedFile:
    image = photo()
    prepared = PreparedImage(np.zeros((384, 384, 3), np.uint8), (("resize", (HEIGHT, WIDTH)),))
    options = Options.model_validate(asked)
    [file] = finish(DecodedImage(image, WIDTH, HEIGHT), prepared, smoke(), options)
    return file


@pytest.mark.parametrize("asked", ASKED)
def test_no_option_makes_numbers_of_all_pixels_at_once(asked: dict[str, Any]) -> None:
    """Of the arrays of numpy: computed at once, they took 69 bytes a pixel and more."""
    finished(asked)  # libraries load things at their first use
    tracemalloc.start()
    try:
        finished(asked)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 45 * WIDTH * HEIGHT


@pytest.mark.parametrize("asked", ASKED)
def test_no_pixel_depends_on_the_blocks(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = finished(asked).data
    monkeypatch.setattr(edge_colours, "BLOCK_PIXELS", 99_999)
    monkeypatch.setattr(samples, "ROWS_PIXELS", 7 * WIDTH)
    assert finished(asked).data == usual


def test_a_hard_shadow_falls_from_a_very_long_photo() -> None:
    image = np.full((4, 40_000, 3), 90, np.uint8)
    alpha = np.zeros((8, 384), np.float32)
    alpha[:, 100:200] = 1
    prepared = PreparedImage(np.zeros((8, 384, 3), np.uint8), (("resize", image.shape[:2]),))
    options = Options.model_validate({"shadow": {"kind": "drop", "blur": 0, "dx": 0.1, "dy": 0}})
    [file] = finish(DecodedImage(image, 40_000, 4), prepared, alpha, options)
    pixels = cv2.imdecode(np.frombuffer(file.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.shape == (4, 40_000, 4)
    right = 200 * 40_000 // 384
    assert pixels[2, right + 500, 3] == pytest.approx(0.35 * 255, abs=1), "black of this opacity"
    assert pixels[2, right + 1_500, 3] == 0
