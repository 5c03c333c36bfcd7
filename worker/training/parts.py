"""Drawing of synthetic products from lit parts, with their exact alpha.

A part is an outline with a material and a thickness. Parts are composited over each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Image
from worker.training.arrays import Plane
from worker.training.backgrounds import noise, random_colour, tiles

Points = Sequence[Sequence[float]]
"""Points (x, y) of an outline or path, as shares of the canvas; y points down."""

SUPERSAMPLE = 2
"""Supersampling factor, in addition to OpenCV's antialiasing. Averaging gives the exact alpha."""

SHIFT_BITS = 4
"""Fractional bits of OpenCV coordinates: 1/16 pixel."""

REFLECTED = 0.62
"""Component of the light's direction towards the viewer."""


@dataclass
class Material:
    """The surface of a part: colour, gloss and transparency.

    `colour` is [3] or a texture [size, size, 3] in 0..255; `gloss` is 0..1. `clear` is the share of
    light (0..1) that passes through the middle of the part. Like glass, it passes less near edges.
    """

    colour: Plane
    gloss: float = 0.2
    clear: float = 0.0


class Drawing:
    """The canvas of one product: straight (not premultiplied) colour and alpha."""

    def __init__(self, rng: np.random.Generator, size: int, textures: Sequence[Image]) -> None:
        self.rng, self.size, self.textures = rng, size, textures
        self.colour = np.full((size, size, 3), 127, np.float32)
        self.alpha = np.zeros((size, size), np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        flat = np.sqrt(1 - REFLECTED**2)
        self.light = np.cos(angle) * flat, np.sin(angle) * flat, REFLECTED

    def polygon(self, points: Points, smooth: float = 0.0) -> Plane:
        """The mask of a filled outline. `smooth` is the corner radius as a share of the canvas."""
        mask = self._canvas()
        cv2.fillPoly(mask, [self._fixed(points)], 255, cv2.LINE_AA, SHIFT_BITS)
        if smooth:
            blurred = cv2.GaussianBlur(mask, (0, 0), smooth * len(mask)).astype(np.float32)
            mask = np.clip((blurred - 127) * 8 * smooth * len(mask) / 3 + 127, 0, 255)
        return self._averaged(mask)

    def line(self, points: Points, width: float) -> Plane:
        """The mask of a band along a path. `width` is a share of the canvas."""
        mask = self._canvas()
        thick = max(1, round(width * len(mask)))
        cv2.polylines(mask, [self._fixed(points)], False, 255, thick, cv2.LINE_AA, SHIFT_BITS)
        return self._averaged(mask)

    def lines(self, paths: Sequence[Points], width: float) -> Plane:
        """The mask of bands along several paths."""
        mask = self._canvas()
        thick = max(1, round(width * len(mask)))
        fixed = [self._fixed(path) for path in paths]
        cv2.polylines(mask, fixed, False, 255, thick, cv2.LINE_AA, SHIFT_BITS)
        return self._averaged(mask)

    def ellipse(self, x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Plane:
        """The mask of a filled ellipse, rotated by `turn` radians."""
        return self.polygon(ring(x, y, rx, ry, turn))

    def hairs(self, mask: Plane, count: int, length: float, spread: float = 0.35) -> Plane:
        """The mask with hairs added along its outline."""
        outline = _outline(mask)
        if outline is None:
            return mask
        centre = outline.mean(0)
        starts = outline[self.rng.integers(len(outline), size=count)]
        away = starts - centre
        away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-6
        lean = self.rng.normal(0, 0.4, 2)
        away += lean + self.rng.normal(0, spread, away.shape)
        ends = starts + away * (length * self.size * self.rng.uniform(0.3, 1.2, (count, 1)))
        bend = (starts + ends) / 2 + self.rng.normal(0, 0.12 * length * self.size, ends.shape)
        paths = np.stack([starts, bend, ends], 1) / self.size
        return np.maximum(mask, self.lines(paths.tolist(), self.rng.uniform(0.5, 1.1) / self.size))

    def put(self, mask: Plane, material: Material, bulge: float) -> None:
        """Composite a part over the product. `bulge` is its thickness as a share of the canvas."""
        rows, columns = np.nonzero(mask > 0.004)
        if len(rows) == 0:
            return
        box = np.s_[
            max(0, rows.min() - 2) : rows.max() + 3, max(0, columns.min() - 2) : columns.max() + 3
        ]
        part = mask[box]
        tint = material.colour[box] if material.colour.ndim == 3 else material.colour
        lit, across = self._lit(part, tint, material.gloss, bulge)
        cover = part
        if material.clear:
            # Glass is less transparent at its edges, and opaque where it reflects the light.
            shine = np.clip(lit.max(2) / 255 - 0.75, 0, 0.25) * 3.5
            cover = part * np.clip(1 - material.clear * across + shine, 0, 1)
        below = self.alpha[box] * (1 - cover)
        total = cover + below
        weight = (cover / np.maximum(total, 1e-4))[..., None]
        self.colour[box] += (
            np.where(total > 1e-4, 1, 0)[..., None] * weight * (lit - self.colour[box])
        )
        self.alpha[box] = total

    def cut(self, mask: Plane) -> None:
        """Cut a hole into the product."""
        self.alpha *= 1 - mask

    def material(self, *, gloss: float | None = None, plain: bool = False) -> Material:
        """A random material: a plain colour, a pattern or a crop of a photo."""
        rng = self.rng
        shine = float(rng.uniform(0, 0.9) ** 2) if gloss is None else gloss
        kind = rng.random()
        colour = random_colour(rng)
        if plain or kind < 0.5:
            return Material(colour, shine)
        if kind < 0.68:
            pattern = tiles(rng, self.size, self.size)[..., None] > 0
            return Material(np.where(pattern, colour, random_colour(rng)), shine)
        if kind < 0.8 or not self.textures:
            bumps = noise(rng, self.size, self.size, rng.uniform(3, 40)) * rng.uniform(5, 40)
            return Material((colour + bumps[..., None]).astype(np.float32), shine)
        return Material(patch(rng, self.textures, self.size), shine)

    def glass(self) -> Material:
        """A random glass, clear or tinted."""
        rng = self.rng
        base = rng.uniform(150, 235, 3) if rng.random() < 0.6 else rng.uniform(20, 230, 3)
        return Material(base.astype(np.float32), rng.uniform(0.6, 1.0), rng.uniform(0.45, 0.9))

    def _lit(self, part: Plane, tint: Plane, gloss: float, bulge: float) -> tuple[Plane, Plane]:
        """Shade a part with one light: Lambert for diffuse light, Phong for gloss.

        Returns the colours [H, W, 3] in 0..255 and the cosine of the angle between the surface and
        the viewer, [H, W] in 0..1.
        """
        inside = cv2.distanceTransform((part > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        depth = max(1.0, bulge * self.size)
        rise = np.clip(inside / depth, 0, 1)
        surface = depth * np.sqrt(np.clip(1 - (1 - rise) ** 2, 0, 1))
        surface = cv2.GaussianBlur(surface, (0, 0), max(0.6, depth * 0.15))
        dx = cv2.Sobel(surface, cv2.CV_32F, 1, 0, scale=1 / 8)
        dy = cv2.Sobel(surface, cv2.CV_32F, 0, 1, scale=1 / 8)
        facing = 1 / np.sqrt(1 + dx * dx + dy * dy)
        lx, ly, lz = self.light
        towards = (lx * dx + ly * dy + lz) * facing
        diffuse = 0.45 + 0.75 * np.clip(towards, 0, 1)
        mirrored = np.clip(2 * towards * facing - lz, 0, 1)
        highlight = gloss * mirrored ** (6 + 40 * gloss) * 200
        lit = tint * diffuse[..., None] + highlight[..., None]
        return np.clip(lit, 0, 255).astype(np.float32), facing.astype(np.float32)

    def _canvas(self) -> NDArray[np.uint8]:
        return np.zeros((self.size * SUPERSAMPLE,) * 2, np.uint8)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        scale = self.size * SUPERSAMPLE * (1 << SHIFT_BITS)
        return np.rint(np.asarray(points, np.float64) * scale).astype(np.int32)

    def _averaged(self, mask: Plane) -> Plane:
        small = cv2.resize(mask, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) / 255


def ring(x: float, y: float, rx: float, ry: float, turn: float = 0.0, share: float = 1.0) -> Points:
    """Points on an ellipse, or on the first `share` (0..1) of it."""
    angles = np.linspace(0, 2 * np.pi * share, 64)
    along, down = rx * np.cos(angles), ry * np.sin(angles)
    c, s = np.cos(turn), np.sin(turn)
    points: Points = np.stack([x + along * c - down * s, y + along * s + down * c], 1).tolist()
    return points


def bent(start: Sequence[float], over: Sequence[float], end: Sequence[float]) -> Points:
    """Points on a quadratic Bézier curve with the control point `over`."""
    t = np.linspace(0, 1, 24)[:, None]
    a, b, c = (np.asarray(point, np.float64) for point in (start, over, end))
    points: Points = ((1 - t) ** 2 * a + 2 * (1 - t) * t * b + t * t * c).tolist()
    return points


def patch(rng: np.random.Generator, textures: Sequence[Image], size: int) -> Plane:
    """A random square crop of a photo, resized to [size, size, 3] float32 in 0..255."""
    texture = textures[int(rng.integers(len(textures)))]
    h, w = texture.shape[:2]
    side = int(rng.uniform(0.15, 0.6) * min(h, w))
    top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
    cut = texture[top : top + side, left : left + side]
    return cv2.resize(cut, (size, size)).astype(np.float32)


def _outline(mask: Plane) -> NDArray[np.float64] | None:
    solid = (mask > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    longest: NDArray[Any] = max(contours, key=len)
    return longest[:, 0, :].astype(np.float64)
