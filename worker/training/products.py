"""Synthetic products of thirteen kinds, with random proportions and exact alpha."""

from collections.abc import Callable, Sequence

import numpy as np

from worker.imaging.arrays import Image
from worker.training.arrays import Plane
from worker.training.drawn_things import furry, lamp, plant, seat, slab, tool
from worker.training.drawn_vessels import cup, vessel
from worker.training.drawn_wear import bag, garment, jewellery, shoe, spectacles
from worker.training.parts import Drawing

PRODUCTS: tuple[Callable[[Drawing], None], ...] = (
    vessel,
    cup,
    shoe,
    bag,
    seat,
    lamp,
    furry,
    spectacles,
    jewellery,
    tool,
    garment,
    plant,
    slab,
)
SHARES = np.array([14, 9, 14, 11, 10, 6, 8, 4, 4, 6, 14, 4, 8]) / 112
"""Probability of each kind, in the order of PRODUCTS."""


def render_product(
    rng: np.random.Generator, size: int, textures: Sequence[Image]
) -> tuple[Plane, Plane]:
    """Draw one product, cropped to its bounding box of at most `size` pixels.

    Returns colour [h, w, 3] float32 in 0..255 (defined everywhere) and alpha [h, w] in 0..1.
    """
    drawing = Drawing(rng, size, textures)
    PRODUCTS[rng.choice(len(PRODUCTS), p=SHARES)](drawing)
    rows, columns = np.nonzero(drawing.alpha > 0.02)
    if len(rows) == 0:
        return drawing.colour, drawing.alpha
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return drawing.colour[box], np.clip(drawing.alpha[box], 0, 1)
