"""Renders the demo's sample photos: python -m worker.training.samples --out deploy/samples.

Each photo shows shaded shapes on a backdrop with a shadow. They look like shop photos and are free
of third-party rights.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.arrays import Plane
from worker.training.backgrounds import noise

LIGHT = np.array([-0.5, -0.6, 0.62])
"""Direction towards the light: left, up, out of the image."""

Layer = tuple[Plane, tuple[int, int, int], float, float]
"""Mask [H, W] in 0..1, RGB colour, thickness as a share of the longer side, gloss in 0..1."""


class Canvas:
    """Draws masks from coordinates in 0..1, with threefold supersampling."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def polygon(self, points: list[tuple[float, float]], *, smooth: float = 0.0) -> Plane:
        """The mask of a filled outline; `smooth` is the corner radius as a share of the height."""
        return self._draw(lambda mask, p: cv2.fillPoly(mask, [p], 255), points, smooth)

    def line(self, points: list[tuple[float, float]], thickness: float) -> Plane:
        """The mask of a band along a path."""
        size = max(1, round(thickness * 3 * max(self.height, self.width)))
        return self._draw(lambda mask, p: cv2.polylines(mask, [p], False, 255, size), points, 0.0)

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> Plane:
        """The mask of a filled ellipse."""
        angles = np.linspace(0, 2 * np.pi, 200)
        outline = zip(x + rx * np.cos(angles), y + ry * np.sin(angles), strict=True)
        return self.polygon([(float(a), float(b)) for a, b in outline])

    def _draw(
        self,
        draw: Callable[[Any, Any], Any],
        points: list[tuple[float, float]],
        smooth: float,
    ) -> Plane:
        mask = np.zeros((3 * self.height, 3 * self.width), np.uint8)
        scaled = np.array(points) * (3 * self.width, 3 * self.height)
        draw(mask, scaled.astype(np.int32))
        if smooth:
            blurred = cv2.GaussianBlur(mask, (0, 0), smooth * mask.shape[0])
            mask = ((blurred > 127) * 255).astype(np.uint8)
        small = cv2.resize(mask, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return (small / 255).astype(np.float32)


def shade(layer: Layer, rng: np.random.Generator) -> Plane:
    """Shade a layer with Lambert and Phong lighting on a surface that bulges by its thickness."""
    mask, colour, thickness, gloss = layer
    height, width = mask.shape
    side = max(height, width)
    inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    depth = thickness * side
    rise = np.clip(inside / max(1.0, depth), 0, 1)
    surface = cv2.GaussianBlur(depth * np.sqrt(1 - (1 - rise) ** 2), (0, 0), side * 0.004)
    dx = cv2.Sobel(surface, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(surface, cv2.CV_32F, 0, 1, scale=1 / 8)
    length = np.sqrt(dx**2 + dy**2 + 1)
    light = LIGHT / np.linalg.norm(LIGHT)
    lambert = np.clip((-dx * light[0] - dy * light[1] + light[2]) / length, 0, 1)
    half = light + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    phong = np.clip((-dx * half[0] - dy * half[1] + half[2]) / length, 0, 1) ** 40
    grain = noise(rng, height, width, 90) * 3
    base = np.array(colour, np.float32) * (0.35 + 0.75 * lambert)[..., None]
    return np.clip(base + (gloss * 170 * phong + grain)[..., None], 0, 255)


def photograph(
    layers: list[Layer], backdrop: Plane, shadow: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Composite the layers over the backdrop, with a shadow to the lower right."""
    height, width = backdrop.shape[:2]
    side = max(height, width)
    whole = np.zeros((height, width), np.float32)
    for mask, *_ in layers:
        whole = np.maximum(whole, mask)
    shift = np.array([[1, 0, 0.02 * side], [0, 1, 0.025 * side]])
    cast = cv2.GaussianBlur(cv2.warpAffine(whole, shift, (width, height)), (0, 0), 0.02 * side)
    picture: Plane = backdrop * (1 - shadow * cast[..., None])
    for layer in layers:
        mask = layer[0][..., None]
        picture = picture * (1 - mask) + shade(layer, rng) * mask
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7) + rng.normal(0, 2, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def backdrop(canvas: Canvas, top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Plane:
    """A studio background that fades from one tone to another."""
    share = np.linspace(0, 1, canvas.height)[:, None, None] ** 1.5
    wall = np.array(top) * (1 - share) + np.array(bottom) * share
    return np.broadcast_to(wall, (canvas.height, canvas.width, 3)).astype(np.float32)


def bottle(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A green bottle with a label on white."""
    c = Canvas(1200, 900)
    right = [(0.55, 0.10), (0.55, 0.30), (0.62, 0.42), (0.63, 0.90)]
    body = c.polygon(right + [(1 - x, y) for x, y in reversed(right)], smooth=0.006)
    cap = c.polygon([(0.44, 0.06), (0.56, 0.06), (0.56, 0.14), (0.44, 0.14)], smooth=0.003)
    label = c.polygon([(0.385, 0.52), (0.615, 0.52), (0.615, 0.76), (0.385, 0.76)])
    layers: list[Layer] = [
        (body, (40, 110, 60), 0.09, 0.9),
        (cap, (190, 160, 60), 0.05, 0.8),
        (np.minimum(label, body), (205, 70, 50), 0.004, 0.1),
    ]
    return photograph(layers, backdrop(c, (252, 252, 252), (240, 240, 240)), 0.25, rng)


def mug(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A mug with a handle on a wooden table. The handle encloses background."""
    c = Canvas(900, 1200)
    ring = np.clip(c.ellipse(0.66, 0.5, 0.13, 0.2) - c.ellipse(0.66, 0.5, 0.085, 0.14), 0, 1)
    body = c.polygon([(0.3, 0.24), (0.64, 0.24), (0.62, 0.8), (0.32, 0.8)], smooth=0.01)
    rim = c.ellipse(0.47, 0.24, 0.17, 0.045)
    layers: list[Layer] = [
        (ring, (40, 90, 165), 0.02, 0.8),
        (body, (45, 100, 180), 0.14, 0.8),
        (rim, (25, 55, 110), 0.3, 0.2),
    ]
    grain = cv2.resize(rng.normal(0, 1, (900, 30)), (1200, 900), interpolation=cv2.INTER_CUBIC)
    wood = np.array([176.0, 132.0, 88.0]) + grain[..., None] * (9, 8, 7)
    wood[::180] -= 40
    return photograph(layers, wood.astype(np.float32), 0.5, rng)


def handbag(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A bag with a thin strap."""
    c = Canvas(1200, 1200)
    t = np.linspace(0, np.pi, 60)
    arc = [(float(0.5 - 0.24 * np.cos(a)), float(0.46 - 0.34 * np.sin(a))) for a in t]
    body = c.polygon([(0.2, 0.45), (0.8, 0.45), (0.86, 0.86), (0.14, 0.86)], smooth=0.014)
    flap = c.polygon([(0.2, 0.45), (0.8, 0.45), (0.72, 0.66), (0.28, 0.66)], smooth=0.01)
    clasp = c.ellipse(0.5, 0.65, 0.035, 0.035)
    layers: list[Layer] = [
        (c.line(arc, 0.016), (120, 50, 40), 0.01, 0.3),
        (body, (150, 62, 48), 0.06, 0.4),
        (flap, (135, 52, 42), 0.04, 0.4),
        (clasp, (215, 185, 90), 0.03, 1.0),
    ]
    return photograph(layers, backdrop(c, (196, 205, 212), (166, 176, 186)), 0.4, rng)


def stool(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A stool with thin legs."""
    c = Canvas(1400, 1050)
    legs = [
        ((0.34, 0.36), (0.24, 0.92)),
        ((0.66, 0.36), (0.76, 0.92)),
        ((0.44, 0.36), (0.40, 0.84)),
        ((0.56, 0.36), (0.60, 0.84)),
    ]
    layers: list[Layer] = [(c.line([a, b], 0.018), (150, 105, 62), 0.012, 0.3) for a, b in legs]
    layers.append((c.line([(0.29, 0.66), (0.71, 0.66)], 0.012), (140, 98, 58), 0.01, 0.3))
    layers.append((c.ellipse(0.5, 0.345, 0.25, 0.06), (120, 82, 48), 0.2, 0.2))
    layers.append((c.ellipse(0.5, 0.32, 0.25, 0.06), (70, 120, 125), 0.03, 0.3))
    return photograph(layers, backdrop(c, (226, 220, 210), (186, 176, 162)), 0.35, rng)


def sneaker(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A white shoe on a grey studio background, in landscape format."""
    c = Canvas(800, 1422)
    upper = c.polygon(
        [
            (0.18, 0.30),
            (0.34, 0.24),
            (0.42, 0.36),
            (0.62, 0.52),
            (0.84, 0.58),
            (0.88, 0.72),
            (0.16, 0.72),
        ],
        smooth=0.022,
    )
    sole = c.polygon([(0.14, 0.69), (0.9, 0.69), (0.9, 0.79), (0.15, 0.79)], smooth=0.014)
    stripe = [c.line([(x, 0.68), (x + 0.06, 0.42)], 0.012) for x in (0.36, 0.41, 0.46)]
    layers: list[Layer] = [
        (upper, (238, 236, 232), 0.09, 0.2),
        *((np.minimum(one, upper), (200, 40, 50), 0.2, 0.1) for one in stripe),
        (sole, (206, 198, 186), 0.03, 0.1),
    ]
    return photograph(layers, backdrop(c, (150, 154, 160), (112, 116, 122)), 0.5, rng)


def toy(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A furry toy with thousands of hairs along its edge."""
    c = Canvas(1000, 1000)
    parts = [
        c.ellipse(*one)
        for one in (
            (0.5, 0.64, 0.2, 0.22),
            (0.5, 0.36, 0.16, 0.15),
            (0.37, 0.24, 0.06, 0.06),
            (0.63, 0.24, 0.06, 0.06),
            (0.29, 0.6, 0.07, 0.13),
            (0.71, 0.6, 0.07, 0.13),
            (0.39, 0.84, 0.09, 0.07),
            (0.61, 0.84, 0.09, 0.07),
        )
    ]
    furry = [_fur(part, rng) for part in parts]
    layers: list[Layer] = [(part, (176, 128, 82), 0.09, 0.0) for part in furry]
    eyes = [c.ellipse(x, 0.34, 0.018, 0.018) for x in (0.44, 0.56)]
    layers.extend((eye, (25, 20, 20), 0.02, 1.0) for eye in eyes)
    layers.append((c.ellipse(0.5, 0.4, 0.028, 0.02), (45, 28, 25), 0.02, 0.8))
    cloth = noise(rng, 1000, 1000, 7)[..., None] * 12 + np.array([120.0, 146.0, 178.0])
    return photograph(layers, cloth.astype(np.float32), 0.45, rng)


def _fur(mask: Plane, rng: np.random.Generator) -> Plane:
    hairs = (mask * 255).astype(np.uint8)
    contours, _ = cv2.findContours(hairs, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = contours[0][:, 0].astype(float)
    centre = outline.mean(0)
    for point in outline[rng.integers(len(outline), size=900)]:
        away = (point - centre) / np.linalg.norm(point - centre)
        end = point + (away + rng.normal(0, 0.3, 2)) * rng.uniform(6, 20)
        ends = [(round(float(x)), round(float(y))) for x, y in (point, end)]
        cv2.line(hairs, ends[0], ends[1], 255, 1, cv2.LINE_AA)
    return (hairs / 255).astype(np.float32)


def main() -> None:
    """Write the photos."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for draw in (bottle, mug, handbag, stool, sneaker, toy):
        photo = draw(rng)[..., ::-1]
        cv2.imwrite(str(out / f"{draw.__name__}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 86])


if __name__ == "__main__":
    main()
