"""Synthetic vessels: bottles, jars, cups, glasses; opaque or transparent, empty or filled."""

from collections.abc import Sequence

import numpy as np

from worker.training.parts import Drawing, Material, Points, bent, ring


def _lathe(heights: Sequence[float], radii: Sequence[float], *, soft: bool = True) -> Points:
    """The outline of a body of revolution around x = 0.5, from radii at given heights."""
    y = np.linspace(heights[0], heights[-1], 60)
    r = np.interp(y, heights, radii)
    if soft:
        r = np.convolve(np.pad(r, 3, mode="edge"), np.ones(7) / 7, "valid")
    right = np.stack([0.5 + r, y], 1)
    left = np.stack([0.5 - r, y], 1)[::-1]
    return [*right.tolist(), *left.tolist()]


def vessel(d: Drawing) -> None:
    """Draw a bottle, jar, can, vase or tube: opaque, or of glass with a liquid."""
    rng = d.rng
    top, bottom = rng.uniform(0.08, 0.3), rng.uniform(0.75, 0.95)
    body, neck = rng.uniform(0.08, 0.24), rng.uniform(0.025, 0.12)
    neck = min(neck, body)
    shoulder = rng.uniform(top + 0.1, (top + bottom) / 2)
    rise = rng.uniform(0.02, 0.12)
    heights = [top, shoulder - rise, shoulder, (shoulder + bottom) / 2, bottom - 0.02, bottom]
    waist = body * rng.uniform(0.75, 1.1)
    radii = [neck, neck, body, waist, body * rng.uniform(0.8, 1.1), body * 0.9]
    outline = d.polygon(_lathe(heights, radii, soft=rng.random() < 0.8), 0.004)
    if rng.random() < 0.45:
        d.put(outline, d.glass(), body * 0.6)
        if rng.random() < 0.6:
            level = rng.uniform(shoulder - 0.05, bottom - 0.05)
            inner = [max(0.01, radius - 0.012) for radius in radii]
            liquid = d.polygon(_lathe(heights, inner)) * (
                np.arange(d.size, dtype=np.float32)[:, None] / d.size > level
            )
            tint = rng.uniform(20, 240, 3).astype(np.float32)
            d.put(liquid, Material(tint, 0.5, rng.uniform(0.0, 0.5)), body * 0.8)
    else:
        d.put(outline, d.material(), body)
    if rng.random() < 0.65:
        width, low = body * rng.uniform(0.6, 0.98), rng.uniform(shoulder + 0.04, bottom - 0.06)
        high = rng.uniform(shoulder + 0.02, low - 0.01) if low > shoulder + 0.05 else shoulder
        label = [(0.5 - width, high), (0.5 + width, high), (0.5 + width, low), (0.5 - width, low)]
        d.put(np.minimum(d.polygon(label), outline), d.material(gloss=0.1), body)
    if rng.random() < 0.75:
        wide = neck * rng.uniform(1.0, 1.4)
        cap_top = top - rng.uniform(0.02, 0.09)
        cap = [(0.5 - wide, cap_top), (0.5 + wide, cap_top), (0.5 + wide, top + 0.03)]
        d.put(d.polygon([*cap, (0.5 - wide, top + 0.03)], 0.006), d.material(plain=True), neck)
        if rng.random() < 0.25:  # a pump
            spout = bent((0.5, cap_top), (0.5, cap_top - 0.06), (0.5 + body, cap_top - 0.05))
            d.put(d.line(spout, rng.uniform(0.015, 0.03)), d.material(plain=True), 0.01)


def cup(d: Drawing) -> None:
    """Draw a mug, jug, stemmed glass or bowl."""
    rng = d.rng
    if rng.random() < 0.4:
        rim, foot = rng.uniform(0.12, 0.2), rng.uniform(0.45, 0.6)
        heights = [0.12, (0.12 + foot) / 2, foot - 0.03, foot, 0.86, 0.88]
        stem = rng.uniform(0.008, 0.02)
        radii = [rim * rng.uniform(0.7, 1.0), rim, rim * 0.5, stem, stem, rng.uniform(0.1, 0.17)]
        made = d.glass() if rng.random() < 0.8 else d.material(plain=True)
        d.put(d.polygon(_lathe(heights, radii), 0.003), made, rim * 0.5)
        if rng.random() < 0.5:
            level = rng.uniform(0.2, 0.4)
            inner = [max(0.0, r - 0.01) for r in radii[:4]]
            wine = d.polygon(_lathe(heights[:4], inner)) * (
                np.arange(d.size, dtype=np.float32)[:, None] / d.size > level
            )
            d.put(wine, Material(rng.uniform(20, 220, 3).astype(np.float32), 0.4, 0.3), rim)
        d.put(d.ellipse(0.5, 0.875, radii[-1], 0.02), made, 0.01)
        return
    made = d.material(plain=rng.random() < 0.5)
    for side in (1,) if rng.random() < 0.8 else (1, -1):
        loop = ring(0.5 + side * rng.uniform(0.18, 0.26), rng.uniform(0.42, 0.58), 0.11, 0.15)
        d.put(d.line(loop, rng.uniform(0.02, 0.045)), made, 0.02)
    heights = [0.25, rng.uniform(0.35, 0.6), 0.78]
    radii = [rng.uniform(0.15, 0.28), rng.uniform(0.16, 0.27), rng.uniform(0.12, 0.26)]
    d.put(d.polygon(_lathe(heights, radii), 0.006), made, rng.uniform(0.1, 0.2))
    dark = Material(np.asarray(rng.uniform(20, 230, 3), np.float32), 0.1)
    d.put(d.ellipse(0.5, 0.25, radii[0] * 0.94, radii[0] * rng.uniform(0.1, 0.25)), dark, 0.01)
