"""The drawn products for training and evaluation have an exact alpha."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.imaging.arrays import Image
from worker.training.compose import Subjects, compose
from worker.training.parts import Drawing, Material
from worker.training.products import PRODUCTS, render_product
from worker.training.sources import Labelled, Sources

SEEDS = st.integers(0, 2**32 - 1)
SIZE = 96


def _texture() -> Image:
    return np.random.default_rng(1).integers(0, 255, (120, 90, 3)).astype(np.uint8)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.__name__)
@settings(max_examples=12)
@given(seed=SEEDS)
def test_a_drawn_product_is_visible_and_within_its_ranges(
    product: Callable[[Drawing], None], seed: int
) -> None:
    drawing = Drawing(np.random.default_rng(seed), SIZE, [_texture()])
    product(drawing)
    assert drawing.alpha.min() >= 0
    assert drawing.alpha.max() <= 1 + 1e-5
    assert drawing.colour.min() >= 0
    assert drawing.colour.max() <= 255
    assert (drawing.alpha > 0.5).sum() > 20


@settings(max_examples=30)
@given(seed=SEEDS)
def test_a_drawn_product_fills_its_bounding_box(seed: int) -> None:
    colour, alpha = render_product(np.random.default_rng(seed), SIZE, [])
    assert colour.shape == (*alpha.shape, 3)
    assert max(alpha.shape) <= SIZE
    for border in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
        assert border.max() > 0.02


@settings(max_examples=30)
@given(
    masks=st.lists(SEEDS, min_size=1, max_size=4),
    clear=st.floats(0, 0.9),
    ground=st.integers(0, 255),
)
def test_composited_parts_look_the_same_over_any_background(
    masks: list[int], clear: float, ground: int
) -> None:
    """Compositing all parts first, and then over a background, gives the same as one part after the
    other over the background.
    """
    together = Drawing(np.random.default_rng(0), SIZE, [])
    picture = np.full((SIZE, SIZE, 3), ground, np.float32)
    for seed in masks:
        rng = np.random.default_rng(seed)
        points = rng.uniform(0.05, 0.95, (5, 2)).tolist()
        material = Material(rng.uniform(0, 255, 3).astype(np.float32), 0.3, clear)
        alone = Drawing(np.random.default_rng(0), SIZE, [])
        for drawing in (together, alone):
            drawing.put(drawing.polygon(points), material, 0.1)
        part = alone.alpha[..., None]
        picture = part * alone.colour + (1 - part) * picture
    whole = together.alpha[..., None]
    result = whole * together.colour + (1 - whole) * ground
    assert np.abs(result - picture).max() < 0.1


def test_glass_is_less_transparent_at_its_edges() -> None:
    drawing = Drawing(np.random.default_rng(3), 200, [])
    glass = Material(np.full(3, 90, np.float32), gloss=0.0, clear=0.8)
    drawing.put(drawing.ellipse(0.5, 0.5, 0.4, 0.4), glass, 0.3)
    middle, edge = drawing.alpha[100, 100], drawing.alpha[100, 100 - 76]
    assert middle == pytest.approx(0.2, abs=0.05)
    assert edge > middle + 0.2


@pytest.mark.parametrize("subjects", ["products", "shapes"])
def test_a_composite_has_an_exact_alpha_and_a_clear_subject(subjects: Subjects) -> None:
    image = _texture()
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[20:100, 20:70] = 255
    photo = Labelled("one.jpg", image, mask)
    sources = Sources(figures=[photo], packshots=[photo], scenes=[image], surroundings=[image])
    rng = np.random.default_rng(9)
    for _ in range(10):
        sample = compose(rng, sources, 128, 96, only_pasted=subjects)
        assert sample.image.shape == (128, 96, 3)
        assert sample.image.dtype == np.uint8
        assert sample.alpha.shape == (128, 96)
        assert sample.alpha.min() >= 0
        assert sample.alpha.max() <= 1
        assert 0.005 < sample.alpha.mean() < 0.95
