"""Synthetic household objects: furniture, lamps, furry toys, tools, plants, flat objects."""

import numpy as np

from worker.training.parts import Drawing, Material, bent, ring


def seat(d: Drawing) -> None:
    """Draw a chair, stool, table, shelf or bench."""
    rng = d.rng
    made = d.material(gloss=float(rng.uniform(0, 0.4)))
    leg = rng.uniform(0.01, 0.035)
    left, right = rng.uniform(0.15, 0.3), rng.uniform(0.7, 0.85)
    level = rng.uniform(0.45, 0.6) if rng.random() < 0.6 else rng.uniform(0.2, 0.4)
    deep, splay = rng.uniform(0.04, 0.14), rng.uniform(-0.02, 0.07)
    floor = rng.uniform(0.85, 0.95)
    backs = [[(left + 0.08, level), (left + 0.08 - splay / 2, floor - deep)]]
    backs.append([(right - 0.08, level), (right - 0.08 + splay / 2, floor - deep)])
    fronts = [[(left + 0.02, level), (left - splay, floor)]]
    fronts.append([(right - 0.02, level), (right + splay, floor)])
    if rng.random() < 0.55:  # a back with slats
        head = rng.uniform(0.06, 0.2)
        d.put(
            d.lines([[(x, level), (x, head)] for x in (left + 0.06, right - 0.06)], leg), made, leg
        )
        if rng.random() < 0.5:
            count = int(rng.integers(2, 7))
            slats = [[(x, level), (x, head)] for x in np.linspace(left + 0.1, right - 0.1, count)]
        else:
            rows = np.linspace(head, level - 0.08, int(rng.integers(1, 5)))
            slats = [[(left + 0.06, y), (right - 0.06, y)] for y in rows]
        slats.append([(left + 0.06, head), (right - 0.06, head)])
        d.put(d.lines(slats, rng.uniform(0.008, 0.05)), made, leg)
    d.put(d.lines(backs, leg), made, leg)
    if rng.random() < 0.4:
        rail = level + (floor - level) * rng.uniform(0.4, 0.8)
        d.put(d.line([(left, rail), (right, rail)], leg * 0.8), made, leg)
    if rng.random() < 0.3:  # shelves
        for y in np.linspace(level, floor - 0.05, int(rng.integers(2, 4)))[1:]:
            board = [(left, y), (right, y), (right, y + 0.025), (left, y + 0.025)]
            d.put(d.polygon(board), made, 0.02)
    cover = d.material()
    shape = [
        (left + 0.05, level - deep),
        (right - 0.05, level - deep),
        (right, level),
        (left, level),
    ]
    d.put(d.polygon(shape, rng.uniform(0, 0.02)), cover, rng.uniform(0.01, 0.05))
    slab = [(left, level), (right, level), (right, level + 0.03), (left, level + 0.03)]
    d.put(d.polygon(slab), made, 0.02)
    d.put(d.lines(fronts, leg), made, leg)


def lamp(d: Drawing) -> None:
    """Draw a thin pole with something at its end: a lamp, fan, clothes stand or umbrella."""
    rng = d.rng
    pole, base = d.material(plain=True), rng.uniform(0.08, 0.2)
    shade_low, shade_top = rng.uniform(0.28, 0.45), rng.uniform(0.06, 0.16)
    sway = rng.normal(0, 0.05)
    path = bent((0.5, 0.9), (0.5 + sway * 2, 0.6), (0.5 + sway, shade_top))
    d.put(d.line(path, rng.uniform(0.008, 0.03)), pole, 0.01)
    d.put(d.ellipse(0.5, 0.9, base, base * rng.uniform(0.15, 0.4)), pole, 0.02)
    wide, narrow = rng.uniform(0.12, 0.34), rng.uniform(0.05, 0.2)
    x = 0.5 + sway
    shade = [(x - narrow, shade_top), (x + narrow, shade_top), (x + wide, shade_low)]
    mask = d.polygon([*shade, (x - wide, shade_low)], rng.uniform(0, 0.03))
    made = d.glass() if rng.random() < 0.2 else d.material()
    d.put(mask, made, rng.uniform(0.05, 0.15))
    if rng.random() < 0.25:
        cord = bent((0.5 + base * 0.8, 0.9), (0.8, 0.97), (0.95, rng.uniform(0.8, 0.95)))
        d.put(d.line(cord, 0.006), pole, 0.005)


def furry(d: Drawing) -> None:
    """Draw an object with hair at its edge: a toy, slipper, rug or wig."""
    rng = d.rng
    made = d.material(gloss=0.0, plain=rng.random() < 0.7)
    other = d.material(gloss=0.0, plain=True)
    length, count = rng.uniform(0.015, 0.08), int(rng.integers(250, 900))
    if rng.random() < 0.45:
        cx, cy = rng.uniform(0.45, 0.55, 2)
        mask = d.ellipse(cx, cy, rng.uniform(0.12, 0.3), rng.uniform(0.12, 0.3), rng.uniform(0, 3))
        d.put(d.hairs(mask, count, length * 1.4, rng.uniform(0.15, 0.6)), made, 0.1)
        return
    trunk = rng.uniform(0.15, 0.24)
    head, ear = rng.uniform(0.12, 0.18), rng.uniform(0.03, 0.08)
    limbs = [(0.5 + s * trunk * 1.2, 0.58, 0.06, 0.13, s * 0.4) for s in (-1, 1)]
    limbs += [(0.5 + s * trunk * 0.7, 0.85, 0.09, 0.07, 0.0) for s in (-1, 1)]
    limbs += [
        (0.5 + s * head * 0.85, 0.34 - head, ear, ear * rng.uniform(1, 3), s * 0.3) for s in (-1, 1)
    ]
    for limb in [*limbs, (0.5, 0.66, trunk, 0.22, 0.0), (0.5, 0.34, head * 1.1, head, 0.0)]:
        mask = d.hairs(d.ellipse(*limb), count // 4, length)
        d.put(mask, made if rng.random() < 0.85 else other, 0.09)
    dark = Material(np.full(3, 25, np.float32), 1.0)
    for x in (0.5 - head * 0.4, 0.5 + head * 0.4):
        d.put(d.ellipse(x, 0.32, 0.018, 0.018), dark, 0.02)
    d.put(d.ellipse(0.5, 0.38, 0.03, 0.02), dark, 0.02)


def tool(d: Drawing) -> None:
    """Draw an object with holes and thin bars: a wheel, racket, scissors, headphones or basket."""
    rng = d.rng
    made, grip = d.material(plain=True), d.material(plain=True)
    kind = rng.random()
    thin = rng.uniform(0.004, 0.014)
    if kind < 0.25:  # wheel or racket
        r = rng.uniform(0.22, 0.38)
        count = int(rng.integers(6, 28))
        if rng.random() < 0.5:
            angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
            spokes = [[(0.5, 0.45), (0.5 + r * np.cos(a), 0.45 + r * np.sin(a))] for a in angles]
        else:
            at = np.linspace(-0.95, 0.95, count)
            reach = np.sqrt(1 - at**2) * r
            spokes = [
                [(0.5 + r * a, 0.45 - s), (0.5 + r * a, 0.45 + s)]
                for a, s in zip(at, reach, strict=True)
            ]
            spokes += [
                [(0.5 - s, 0.45 + r * a), (0.5 + s, 0.45 + r * a)]
                for a, s in zip(at, reach, strict=True)
            ]
            d.put(d.line([(0.5, 0.45 + r), (0.5, 0.98)], rng.uniform(0.02, 0.05)), grip, 0.02)
        d.put(d.lines(spokes, thin), made, 0.005)
        d.put(d.line(ring(0.5, 0.45, r, r), rng.uniform(0.012, 0.06)), grip, 0.02)
    elif kind < 0.5:  # scissors
        open_ = rng.uniform(0.05, 0.4)
        for side in (-1, 1):
            tip = (0.5 + side * open_ * 0.5, rng.uniform(0.06, 0.12))
            blade = [(0.5 - side * 0.03, 0.55), tip, (0.5 + side * 0.02, 0.52)]
            d.put(d.polygon(blade), made, 0.01)
            loop = ring(
                0.5 - side * rng.uniform(0.08, 0.16),
                0.75,
                0.08,
                rng.uniform(0.09, 0.15),
                side * 0.4,
            )
            d.put(d.line(loop, rng.uniform(0.02, 0.045)), grip, 0.015)
            d.put(d.line([(0.5, 0.53), (0.5 - side * 0.09, 0.66)], 0.03), grip, 0.015)
    elif kind < 0.75:  # headphones
        band = ring(0.5, 0.5, rng.uniform(0.22, 0.32), rng.uniform(0.26, 0.36), np.pi, 0.5)
        d.put(d.line(band, rng.uniform(0.015, 0.05)), made, 0.02)
        for x in (band[0][0], band[-1][0]):
            d.put(d.ellipse(x, 0.55, rng.uniform(0.05, 0.09), rng.uniform(0.09, 0.14)), grip, 0.05)
        if rng.random() < 0.4:
            d.put(d.line(bent((band[0][0], 0.65), (0.3, 0.9), (0.8, 0.92)), 0.007), grip, 0.005)
    else:  # basket
        rows = np.linspace(0.45, 0.85, int(rng.integers(3, 9)))
        bars = [[(0.2 + 0.1 * (y - 0.45), y), (0.8 - 0.1 * (y - 0.45), y)] for y in rows]
        bars += [
            [(x, 0.45), (0.5 + (x - 0.5) * 0.87, 0.85)]
            for x in np.linspace(0.2, 0.8, int(rng.integers(4, 14)))
        ]
        d.put(d.lines(bars, rng.uniform(0.006, 0.03)), made, 0.01)
        d.put(
            d.line(bent((0.25, 0.45), (0.5, rng.uniform(-0.15, 0.2)), (0.75, 0.45)), 0.02),
            grip,
            0.01,
        )


def plant(d: Drawing) -> None:
    """Draw leaves on thin stems, in a pot or as a bunch."""
    rng = d.rng
    green = Material(
        np.array([rng.uniform(20, 170), rng.uniform(80, 200), rng.uniform(20, 120)], np.float32),
        0.2,
    )
    other = d.material(plain=True)
    for _ in range(int(rng.integers(3, 12))):
        tip = rng.uniform(0.12, 0.88), rng.uniform(0.06, 0.45)
        stem = bent((0.5, 0.72), (0.5 + rng.normal(0, 0.1), 0.5), tip)
        d.put(d.line(stem, rng.uniform(0.004, 0.012)), green, 0.005)
        for at in rng.integers(6, 24, int(rng.integers(1, 5))):
            x, y = stem[at]
            leaf = d.ellipse(
                x, y, rng.uniform(0.04, 0.11), rng.uniform(0.012, 0.04), rng.uniform(0, 3.1)
            )
            d.put(leaf, green if rng.random() < 0.85 else other, 0.02)
    if rng.random() < 0.75:
        wide, foot = rng.uniform(0.12, 0.22), rng.uniform(0.08, 0.16)
        pot = [(0.5 - wide, 0.68), (0.5 + wide, 0.68), (0.5 + foot, 0.92), (0.5 - foot, 0.92)]
        d.put(d.polygon(pot, 0.005), d.material(), 0.12)


def slab(d: Drawing) -> None:
    """Draw a flat object with something on it: a book, telephone, cushion or frame."""
    rng = d.rng
    w, h = rng.uniform(0.12, 0.4), rng.uniform(0.12, 0.4)
    turn = rng.normal(0, 0.3)
    c, s = np.cos(turn), np.sin(turn)

    def around(share: float) -> list[tuple[float, float]]:
        corners = [(-w, -h), (w, -h), (w, h), (-w, h)]
        return [(0.5 + share * (x * c - y * s), 0.5 + share * (x * s + y * c)) for x, y in corners]

    d.put(d.polygon(around(1.0), rng.uniform(0.001, 0.03)), d.material(), rng.uniform(0.005, 0.2))
    if rng.random() < 0.5:
        d.put(d.polygon(around(rng.uniform(0.5, 0.9))), d.material(), 0.01)
    if rng.random() < 0.2:
        d.cut(d.polygon(around(rng.uniform(0.4, 0.8))))
    if rng.random() < 0.25:
        start, end = around(1.0)[0], (rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.2))
        d.put(d.line(bent(start, (0.2, 0.1), end), 0.008), d.material(plain=True), 0.005)
