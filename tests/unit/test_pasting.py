"""Pasting: the edge has its own colours wherever it lands, and only what is seen is resized."""

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest

from shared.options import Options
from worker.imaging.arrays import Image
from worker.imaging.crop_and_canvas import compute_placement
from worker.imaging.matte import subject_box
from worker.imaging.pasting import Edge, paste
from worker.imaging.render import Subject, render

FRAMES: list[dict[str, Any]] = [
    {"crop": True},
    {"crop": True, "crop_margin": "10%", "max_side_px": 90},
    {"max_side_px": 200},
    {"canvas": "1:1", "scale": 0.9},
    {"canvas": "300x200", "scale": 0.9, "enlarge": True},
    {"canvas": "100x300", "scale": 0.4, "position": "0% 100%"},
]


def photo(width: int = 403, height: int = 301) -> tuple[Image, Image]:
    """A noisy photo and the soft matte of a disc."""
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    matte = np.zeros((height, width), np.uint8)
    cv2.circle(matte, (width // 2, height // 2), height // 4, 255, -1)
    return noise, cv2.GaussianBlur(matte, (0, 0), 2).astype(np.uint8)


@pytest.mark.parametrize("asked", FRAMES)
def test_edge_colours_are_pasted_as_if_they_were_the_photo_s(asked: dict[str, Any]) -> None:
    image, matte = photo()
    pixels = np.nonzero(((matte > 0) & (matte < 255)).reshape(-1))[0]
    changed = image.copy()
    changed.reshape(-1, 3)[pixels] = (255, 0, 80)
    edge = Edge(pixels, changed.reshape(-1, 3)[pixels])
    placement = compute_placement(Options.model_validate(asked), 403, 301, subject_box(matte))
    colours, alpha = paste(placement, image, matte, edge)
    expected, same_alpha = paste(placement, changed, matte)
    assert (colours == expected).all()
    assert (alpha == same_alpha).all()


@pytest.mark.parametrize("output", ["cutout", "alpha"])
def test_a_small_subject_is_enlarged_without_the_rest_of_the_photo(output: str) -> None:
    """It was enlarged with all of the photo: here to 1.4 gigapixels."""
    image = np.full((1_500, 2_000, 3), (200, 60, 30), np.uint8)
    matte = np.zeros((1_500, 2_000), np.uint8)
    matte[700:740, 1_200:1_220] = 255
    asked = {"canvas": "1000x1000", "scale": 0.9, "enlarge": True, "output": output}
    options, subject = Options.model_validate(asked), Subject(image, matte)
    placement = subject.placement(options)
    assert placement.scale == 22.5
    assert max(placement.size) < 1_200
    tracemalloc.start()
    try:
        pixels = render(subject, options)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 60 * 1_000 * 1_000
    alpha = pixels[..., 3] if output == "cutout" else pixels
    left, top, right, bottom = subject_box(alpha) or (0, 0, 0, 0)
    assert right - left == pytest.approx(450, abs=30)
    assert bottom - top == pytest.approx(900, abs=30)
    assert left + right == pytest.approx(1_000, abs=2), "in the middle"
    assert top + bottom == pytest.approx(1_000, abs=2)
    assert (alpha[500, 300:700] == 255).all()
    if output == "cutout":
        assert (pixels[500, 500] == (200, 60, 30, 255)).all()
