"""Synthetic fashion items: shoes, bags, garments, spectacles, jewellery."""

import numpy as np

from worker.training.backgrounds import noise, random_colour
from worker.training.parts import Drawing, Material, bent, ring


def shoe(d: Drawing) -> None:
    """Draw a sneaker, boot, heel or sandal from the side: one shoe or a pair."""
    rng = d.rng
    pair = rng.random() < 0.35
    kind = rng.random()
    upper, sole = d.material(), d.material(plain=True)
    laces = Material(random_colour(rng), 0.1)
    collar, sole_height = rng.uniform(0.34, 0.5), rng.uniform(0.02, 0.07)
    heel = rng.uniform(0.08, 0.26) if kind > 0.75 else 0.0
    toe = rng.uniform(0.03, 0.1)
    for shift in (0.0, rng.uniform(0.06, 0.14)) if pair else (0.0,):
        x, y = 0.1 + shift / 2, 0.7 - shift
        back = y - 0.02 - heel
        if kind < 0.3:  # sandal: a sole and straps
            base = [(x, back), (x + 0.35, y - 0.04), (x + 0.75, y), (x + 0.75, y + sole_height)]
            d.put(d.polygon([*base, (x, back + sole_height + 0.02)], 0.008), sole, 0.02)
            for at in rng.uniform(0.05, 0.7, int(rng.integers(2, 5))):
                floor = back + (y - back) * at / 0.75
                width = rng.uniform(0.08, 0.2)
                over = (x + at + width / 2, floor - rng.uniform(0.1, 0.32))
                strap = bent((x + at, floor), over, (x + at + width, floor + 0.01))
                d.put(d.line(strap, rng.uniform(0.012, 0.05)), upper, 0.015)
        else:
            high = collar - (rng.uniform(0.1, 0.25) if kind < 0.5 else 0) - heel * 0.5
            body = [
                (x + 0.02, high),
                (x + rng.uniform(0.2, 0.28), high + rng.uniform(-0.02, 0.04)),
                (x + 0.36, y - 0.2 - heel * 0.3),
                (x + 0.62, y - toe - 0.06),
                (x + 0.76, y - toe),
                (x + 0.77, y),
                (x + 0.35, y - heel * 0.45),
                (x, back),
            ]
            hull = d.polygon(body, 0.014)
            d.put(hull, upper, rng.uniform(0.05, 0.12))
            if rng.random() < 0.6:
                inside = [(x + 0.03, high), (x + 0.22, high), (x + 0.17, high + 0.05)]
                d.put(d.polygon(inside, 0.006), Material(np.full(3, 40, np.float32), 0), 0.01)
            under = [(x, back), (x + 0.35, y - heel * 0.45), (x + 0.78, y)]
            edge = [(px, py + sole_height) for px, py in reversed(under)]
            d.put(d.polygon([*under, *edge], 0.006), sole, 0.02)
            if rng.random() < 0.6:
                rows = [
                    [
                        (x + 0.26 + 0.06 * n, high + 0.06 + 0.05 * n),
                        (x + 0.34 + 0.06 * n, high + 0.03 + 0.05 * n),
                    ]
                    for n in range(4)
                ]
                d.put(np.minimum(d.lines(rows, 0.012), hull), laces, 0.01)
            if rng.random() < 0.4:
                stripe = bent((x + 0.15, y - 0.05), (x + 0.4, y - 0.2), (x + 0.55, y - 0.03))
                d.put(np.minimum(d.line(stripe, rng.uniform(0.01, 0.04)), hull), laces, 0.01)
        if heel:
            thin = rng.uniform(0.012, 0.1)
            post = [(x, back), (x + thin + 0.05, back), (x + thin, y + 0.02), (x + 0.01, y + 0.02)]
            d.put(d.polygon(post, 0.003), sole, 0.02)


def bag(d: Drawing) -> None:
    """Draw a handbag, tote, backpack or purse, with handles, strap or fringe."""
    rng = d.rng
    made = d.material()
    trim = d.material(plain=True)
    top, bottom = rng.uniform(0.35, 0.5), rng.uniform(0.75, 0.92)
    wide, low = rng.uniform(0.14, 0.36), rng.uniform(0.16, 0.38)
    for inset in (0.0, 0.03) if rng.random() < 0.4 else (0.0,):
        hold = wide * rng.uniform(0.35, 0.95)
        over = (0.5 + rng.normal(0, 0.03), top - rng.uniform(0.15, 0.6) + inset)
        path = bent((0.5 - hold, top + 0.02), over, (0.5 + hold, top + 0.02))
        d.put(d.line(path, rng.uniform(0.008, 0.035)), trim, 0.012)
    body = [(0.5 - wide, top), (0.5 + wide, top), (0.5 + low, bottom), (0.5 - low, bottom)]
    mask = d.polygon(body, rng.uniform(0.005, 0.03))
    if rng.random() < 0.15:
        mask = np.maximum(mask, d.hairs(mask, int(rng.integers(150, 500)), 0.06))
    d.put(mask, made, rng.uniform(0.03, 0.12))
    if rng.random() < 0.6:
        edge = rng.uniform(top + 0.08, bottom - 0.08)
        flap = [(0.5 - wide, top), (0.5 + wide, top), (0.5 + wide * 0.8, edge)]
        d.put(d.polygon([*flap, (0.5 - wide * 0.8, edge)], 0.01), d.material(), 0.03)
        d.put(d.ellipse(0.5, edge, 0.025, 0.025), trim, 0.02)
    if rng.random() < 0.3:
        charm = bent((0.5 - wide, top), (0.4 - wide, top + 0.1), (0.47 - wide, top + 0.25))
        d.put(d.line(charm, 0.008), trim, 0.005)


def garment(d: Drawing) -> None:
    """Draw a shirt, trousers, dress or skirt, on a hanger or flat, sometimes translucent."""
    rng = d.rng
    made = d.material(gloss=0.0)
    folds = 1 - np.abs(noise(rng, d.size, d.size, rng.uniform(3, 9)))
    shade = 1 + (folds * rng.uniform(0, 0.5) - 0.2)[..., None]
    made.colour = np.clip(made.colour * shade, 0, 255).astype(np.float32)
    if rng.random() < 0.12:
        made.clear = rng.uniform(0.2, 0.6)
    kind = rng.random()
    waist, hem = rng.uniform(0.12, 0.22), rng.uniform(0.14, 0.4)
    if kind < 0.35:  # shirt: sleeves of any length
        shoulder, sleeve = rng.uniform(0.18, 0.26), rng.uniform(0.08, 0.5)
        droop = rng.uniform(0.2, 1.2)
        ex, ey = np.cos(droop) * sleeve, np.sin(droop) * sleeve
        cuff = rng.uniform(0.05, 0.11)
        low = rng.uniform(0.65, 0.9)
        half = [
            (0.06, 0.16),
            (shoulder, 0.2),
            (shoulder + ex, 0.2 + ey),
            (shoulder + ex - cuff * np.sin(droop), 0.2 + ey + cuff * np.cos(droop)),
            (waist + 0.01, 0.38),
            (waist + rng.uniform(-0.02, 0.04), low),
        ]
    elif kind < 0.6:  # trousers or shorts: the gap between the legs is background
        foot, gap = rng.uniform(0.06, 0.12), rng.uniform(0.01, 0.12)
        low = rng.uniform(0.5, 0.94)
        half = [
            (waist * 0.8, 0.1),
            (waist, 0.3),
            (gap + foot, low),
            (gap, low),
            (0.0, rng.uniform(0.32, 0.4)),
        ]
    else:  # dress or skirt
        neck = rng.uniform(0.04, 0.1)
        half = [
            (neck, 0.12),
            (neck + 0.06, 0.13),
            (waist * 0.7, 0.38),
            (hem, rng.uniform(0.6, 0.93)),
        ]
    outline = [(0.5 + x, y) for x, y in half] + [(0.5 - x, y) for x, y in reversed(half)]
    lean = rng.normal(0, 0.02, (len(outline), 2))
    outline = [(x + a, y + b) for (x, y), (a, b) in zip(outline, lean, strict=True)]
    if rng.random() < 0.3:
        metal = d.material(plain=True)
        hook = [*ring(0.5, 0.07, 0.025, 0.03, np.pi, 0.75)]
        d.put(d.line(hook, 0.008), metal, 0.005)
        d.put(d.lines([[(0.5, 0.1), (0.28, 0.2)], [(0.5, 0.1), (0.72, 0.2)]], 0.014), metal, 0.01)
    mask = d.polygon(outline, rng.uniform(0.004, 0.012))
    if rng.random() < 0.15:
        mask = d.hairs(mask, int(rng.integers(200, 700)), rng.uniform(0.01, 0.04))
    d.put(mask, made, rng.uniform(0.02, 0.1))
    if rng.random() < 0.3:
        printed = d.ellipse(
            0.5, rng.uniform(0.35, 0.5), rng.uniform(0.04, 0.1), rng.uniform(0.04, 0.1)
        )
        d.put(np.minimum(printed, mask), d.material(gloss=0), 0.02)
    for y in rng.uniform(0.25, 0.75, int(rng.integers(0, 3))):
        band = np.minimum(
            d.line([(0.1, y), (0.9, y + rng.normal(0, 0.03))], rng.uniform(0.008, 0.08)), mask
        )
        d.put(band, d.material(gloss=0, plain=True), 0.01)


def spectacles(d: Drawing) -> None:
    """Draw spectacles with translucent lenses and folded or open temples."""
    rng = d.rng
    frame = d.material(plain=True)
    rx, ry = rng.uniform(0.13, 0.19), rng.uniform(0.09, 0.17)
    gap, thick = rng.uniform(0.02, 0.06), rng.uniform(0.008, 0.035)
    lens = d.glass()
    lens.clear = rng.uniform(0.1, 0.9)
    for side in (-1, 1):
        x = 0.5 + side * (rx + gap)
        d.put(d.ellipse(x, 0.5, rx, ry), lens, 0.03)
        end = (x + side * rng.uniform(-0.1, 0.12), 0.5 - ry - rng.uniform(0.05, 0.25))
        arm = bent((x + side * rx, 0.46), (x + side * (rx + 0.05), 0.35), end)
        d.put(d.line(arm, thick * 0.8), frame, 0.008)
    for side in (-1, 1):
        rim = ring(0.5 + side * (rx + gap), 0.5, rx, ry)
        d.put(d.line(rim, thick), frame, 0.01)
    bridge = bent((0.5 - gap, 0.48), (0.5, 0.44), (0.5 + gap, 0.48))
    d.put(d.line(bridge, thick), frame, 0.01)


def jewellery(d: Drawing) -> None:
    """Draw thin loops: a necklace, bracelet, watch, earring or key ring."""
    rng = d.rng
    metal = d.material(gloss=0.9, plain=True)
    rx, ry = rng.uniform(0.15, 0.36), rng.uniform(0.15, 0.36)
    thick = rng.uniform(0.005, 0.05)
    if rng.random() < 0.3:  # watch
        strap = d.material()
        d.put(d.line(ring(0.5, 0.5, rx * 0.6, ry), rng.uniform(0.04, 0.09)), strap, 0.02)
        d.put(d.ellipse(0.5, 0.5 + ry, 0.12, 0.12), metal, 0.03)
        d.put(d.ellipse(0.5, 0.5 + ry, 0.09, 0.09), d.material(plain=True), 0.01)
        return
    d.put(d.line(ring(0.5, 0.45, rx, ry, rng.normal(0, 0.2)), thick), metal, thick)
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(0, 24))):
        size = rng.uniform(0.01, 0.03)
        x, y = 0.5 + rx * np.cos(angle), 0.45 + ry * np.sin(angle)
        d.put(d.ellipse(x, y, size, size), metal, size)
    if rng.random() < 0.6:
        drop = d.glass() if rng.random() < 0.3 else d.material(gloss=0.8, plain=True)
        d.put(d.ellipse(0.5, 0.5 + ry, rng.uniform(0.03, 0.1), rng.uniform(0.03, 0.1)), drop, 0.05)
