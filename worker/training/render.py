"""Synthetic abstract objects and cartons with exact alpha.

Abstract objects combine bodies, holes, straps, handles, legs and fringes at random.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Image
from worker.training.arrays import Alpha, Colour
from worker.training.backgrounds import noise, random_colour
from worker.training.parts import patch

SUPERSAMPLE = 3
"""Supersampling factor of the outlines. Averaging gives the exact alpha."""


def render_object(
    rng: np.random.Generator, size: int, textures: Sequence[Image]
) -> tuple[Colour, Alpha]:
    """Draw one abstract object, cropped to its bounding box of at most `size` pixels.

    Returns colour [h, w, 3] float32 in 0..255 (defined everywhere) and alpha [h, w] in 0..1.
    """
    big = size * SUPERSAMPLE
    mask = np.zeros((big, big), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        _body(rng, mask)
    if rng.random() < 0.5:
        _straps(rng, mask)
    if rng.random() < 0.35:
        _handles(rng, mask)
    if rng.random() < 0.25:
        _legs(rng, mask)
    if rng.random() < 0.35:
        _holes(rng, mask)
    if rng.random() < 0.25:
        _fringe(rng, mask)
    alpha = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    colour = _surface(rng, alpha, textures)
    rows, columns = np.nonzero(alpha > 0.02)
    if len(rows) == 0:
        return colour, alpha
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return colour[box], alpha[box]


def render_carton(
    rng: np.random.Generator, size: int, textures: Sequence[Image]
) -> tuple[Colour, Alpha]:
    """Draw a printed carton seen from a corner, usually white. Returns as `render_object`."""
    big = size * SUPERSAMPLE
    depth, rise = rng.uniform(0.12, 0.4), rng.uniform(0.02, 0.22)
    w, h = rng.uniform(0.25, 0.55), rng.uniform(0.3, 0.65)
    left, top = (1 - w - depth) / 2, (1 - h - rise) / 2 + rise
    front = [(left, top), (left + w, top + rise / 3), (left + w, top + h), (left, top + h - rise)]
    side = [
        (left + w, top + rise / 3),
        (left + w + depth, top - rise / 3),
        (left + w + depth, top + h - rise),
        (left + w, top + h),
    ]
    lid = [front[0], front[1], side[1], (left + depth, top - rise * 0.8)]
    white = np.full(3, rng.uniform(215, 255))
    body: Colour = white if rng.random() < 0.6 else random_colour(rng)
    whole = np.zeros((big, big), np.uint8)
    colour = np.empty((size, size, 3), np.float32)
    colour[:] = body
    for face, light in ((lid, rng.uniform(0.95, 1.08)), (side, rng.uniform(0.6, 0.95)), (front, 1)):
        mask = np.zeros((big, big), np.uint8)
        cv2.fillPoly(mask, [(np.array(face) * big).astype(np.int32)], 255, cv2.LINE_AA)
        part = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        printed = np.empty_like(colour)
        printed[:] = body
        if textures and rng.random() < 0.3:
            printed = patch(rng, textures, size)
        if rng.random() < 0.8:
            _print_on(rng, printed)
        colour += part[..., None] * (printed * light - colour)
        whole = np.maximum(whole, mask).astype(np.uint8)
    # Close the seams between the faces.
    whole = cv2.morphologyEx(whole, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).astype(np.uint8)
    alpha = cv2.resize(whole, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    rows, columns = np.nonzero(alpha > 0.02)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return np.clip(colour, 0, 255).astype(np.float32)[box], alpha[box]


def _outline(rng: np.random.Generator) -> NDArray[np.float64]:
    """A closed outline [N, 2] around the origin, with a radius of about 1."""
    kind = rng.random()
    if kind < 0.3:  # smooth blob
        angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        radius = np.ones_like(angles)
        for order in range(2, 7):
            radius += rng.normal(0, 0.35 / order) * np.cos(order * angles + rng.uniform(0, 6.3))
        radius = np.clip(radius, 0.25, 2)
        return np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
    if kind < 0.38:  # two legs from one waist, with background between them
        waist, foot, gap = rng.uniform(0.3, 0.5), rng.uniform(0.14, 0.3), rng.uniform(0.02, 0.3)
        crotch = rng.uniform(-0.5, 0.1)
        leg = [(waist, -1.0), (gap + foot, 1.0), (gap, 1.0), (0.0, crotch)]
        return np.array([*leg, *[(-x, y) for x, y in leg[2::-1]]])
    if kind < 0.58:  # body of revolution: bottle, vase, can, lamp
        heights = np.linspace(-1, 1, 60)
        knots = rng.uniform(0.12, 0.65, int(rng.integers(3, 8)))
        width = np.interp(heights, np.linspace(-1, 1, len(knots)), knots)
        if rng.random() < 0.7:
            width = np.convolve(np.pad(width, 4, mode="edge"), np.ones(9) / 9, "valid")
        right = np.stack([width, heights], 1)
        return np.concatenate([right, (right * (-1, 1))[::-1]])
    if kind < 0.8:  # box with rounded or cut corners
        w, h, power = rng.uniform(0.3, 1), rng.uniform(0.3, 1), rng.choice([0.08, 0.2, 0.5, 1.0])
        angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        c, s = np.cos(angles), np.sin(angles)
        return np.stack(
            [np.sign(c) * np.abs(c) ** power * w, np.sign(s) * np.abs(s) ** power * h], 1
        )
    corners = int(rng.integers(3, 12))  # polygon or star
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.35, 1.1, corners)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)


def _body(rng: np.random.Generator, mask: NDArray[np.uint8]) -> None:
    size = mask.shape[0]
    points = _outline(rng) * rng.uniform(0.15, 0.36) * size
    turn = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.normal(0, 0.15)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = rng.uniform(0.36, 0.64, 2) * size
    cv2.fillPoly(mask, [(points @ rotation.T + centre).astype(np.int32)], 255, cv2.LINE_AA)


def _straps(rng: np.random.Generator, mask: NDArray[np.uint8]) -> None:
    size = mask.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        ends = rng.uniform(0.25, 0.75, (2, 2))
        bend = rng.uniform(0.05, 0.95, (2, 2))
        t = np.linspace(0, 1, 40)[:, None]
        curve = (
            (1 - t) ** 3 * ends[0]
            + 3 * (1 - t) ** 2 * t * bend[0]
            + 3 * (1 - t) * t**2 * bend[1]
            + t**3 * ends[1]
        )
        width = int(rng.uniform(0.006, 0.045) * size) + 1
        cv2.polylines(mask, [(curve * size).astype(np.int32)], False, 255, width, cv2.LINE_AA)


def _handles(rng: np.random.Generator, mask: NDArray[np.uint8]) -> None:
    """Add loops that show the background: handles of mugs, bags, baskets, scissors, frames."""
    size = mask.shape[0]
    for _ in range(int(rng.integers(1, 3))):
        centre = (rng.uniform(0.25, 0.75, 2) * size).astype(int).tolist()
        axes = (rng.uniform(0.06, 0.26, 2) * size).astype(int).tolist()
        width = int(rng.uniform(0.008, 0.05) * size) + 1
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(mask, centre, axes, turn, 0, 360, 255, width, cv2.LINE_AA)


def _legs(rng: np.random.Generator, mask: NDArray[np.uint8]) -> None:
    size = mask.shape[0]
    top, bottom = rng.uniform(0.45, 0.6), rng.uniform(0.75, 0.95)
    for x in rng.uniform(0.25, 0.75, int(rng.integers(2, 5))):
        lean = rng.normal(0, 0.04)
        ends = ((int(x * size), int(top * size)), (int((x + lean) * size), int(bottom * size)))
        cv2.line(mask, *ends, 255, int(rng.uniform(0.008, 0.03) * size) + 1, cv2.LINE_AA)


def _holes(rng: np.random.Generator, mask: NDArray[np.uint8]) -> None:
    size = mask.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        points = _outline(rng) * rng.uniform(0.02, 0.11) * size + rng.uniform(0.3, 0.7, 2) * size
        cv2.fillPoly(mask, [points.astype(np.int32)], 0, cv2.LINE_AA)


def _fringe(rng: np.random.Generator, mask: NDArray[np.uint8]) -> None:
    """Add hairs along the outline."""
    size = mask.shape[0]
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return
    contour = max(contours, key=len)[:, 0, :].astype(np.float64)
    centre = contour.mean(0)
    length = rng.uniform(0.01, 0.07) * size
    for index in rng.integers(len(contour), size=int(rng.integers(150, 700))):
        start = contour[index]
        out = (start - centre) / (np.linalg.norm(start - centre) + 1e-6)
        end = start + (out + rng.normal(0, 0.35, 2)) * length * rng.uniform(0.4, 1.2)
        cv2.line(
            mask,
            tuple(start.astype(int).tolist()),
            tuple(end.astype(int).tolist()),
            255,
            int(rng.integers(1, 4)),
            cv2.LINE_AA,
        )


def _print_on(rng: np.random.Generator, colour: Colour) -> None:
    """Print labels, stripes and logos. White prints on white must not look like holes."""
    size = colour.shape[0]
    for _ in range(int(rng.integers(1, 5))):
        tone = [255.0] * 3 if rng.random() < 0.35 else random_colour(rng).tolist()
        centre = rng.uniform(0.25, 0.75, 2) * size
        half = rng.uniform(0.03, 0.3, 2) * size
        if rng.random() < 0.6:
            low, high = (centre - half).astype(int).tolist(), (centre + half).astype(int).tolist()
            cv2.rectangle(colour, low, high, tone, -1, cv2.LINE_AA)
        else:
            axes = half.astype(int).tolist()
            place = centre.astype(int).tolist()
            cv2.ellipse(colour, place, axes, rng.uniform(0, 180), 0, 360, tone, -1, cv2.LINE_AA)


def _surface(rng: np.random.Generator, alpha: Alpha, textures: Sequence[Image]) -> Colour:
    """The object's surface: colour, texture or print, lit from one side."""
    size = alpha.shape[0]
    if textures and rng.random() < 0.55:
        colour = patch(rng, textures, size)
    else:
        colour = np.empty((size, size, 3), np.float32)
        colour[:] = random_colour(rng)
        if rng.random() < 0.4:
            second = noise(rng, size, size, rng.uniform(2, 14)) > rng.uniform(-0.3, 0.5)
            colour[second] = random_colour(rng)
        colour += (noise(rng, size, size, rng.uniform(3, 40)) * rng.uniform(0, 25))[..., None]
    if rng.random() < 0.5:
        _print_on(rng, colour)
    relief = cv2.GaussianBlur(alpha, (0, 0), size * rng.uniform(0.02, 0.1))
    angle = rng.uniform(0, 2 * np.pi)
    dx = cv2.Sobel(relief, cv2.CV_32F, 1, 0)
    dy = cv2.Sobel(relief, cv2.CV_32F, 0, 1)
    light = (dx * np.cos(angle) + dy * np.sin(angle)) * size * rng.uniform(0, 12)
    return np.clip(colour + light[..., None], 0, 255).astype(np.float32)
