"""Accuracy of the edge colours compared with PyMatting: python -m tests.benchmarks.edges.

It uses composites whose foreground is known everywhere: textured subjects with soft, hairy and
translucent edges on textured walls. PyMatting comes with the extra `bench`.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pymatting import estimate_foreground_ml

from tests.benchmarks.report import report
from worker.imaging.arrays import Image
from worker.imaging.edge_colours import estimate_foreground, transition_pixels

SIZE = (800, 640)
KINDS = ("soft", "hair", "veil")
SEEDS = 4
ROUNDS = 3

Colours = Callable[[Image, Image], Image]


def composite(kind: str, seed: int) -> tuple[Image, Image, Image]:
    """Photo [H, W, 3], alpha [H, W] and the true foreground [H, W, 3], all uint8."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    alpha = np.zeros(SIZE, np.float32)
    centre = width // 2, height // 2
    cv2.ellipse(alpha, centre, (width // 4, height // 3), 15, 0, 360, 1.0, -1)
    if kind == "hair":
        for _ in range(400):
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(1.02, 1.25)
            x, y = np.cos(angle) * width / 4, np.sin(angle) * height / 3
            start = round(centre[0] + x * 0.95), round(centre[1] + y * 0.95)
            end = round(centre[0] + x * length), round(centre[1] + y * length)
            cv2.line(alpha, start, end, 1.0, 1, cv2.LINE_AA)
        alpha = cv2.GaussianBlur(alpha, (0, 0), 0.7).astype(np.float32)
    elif kind == "veil":
        alpha = cv2.GaussianBlur(alpha, (0, 0), 25).astype(np.float32)
    else:
        alpha = cv2.GaussianBlur(alpha, (0, 0), 3).astype(np.float32)
    subject = _texture(rng, 20, 20, 220)
    wall = _texture(rng, 8, 60, 250)
    photo = alpha[..., None] * subject + (1 - alpha[..., None]) * wall
    photo += rng.normal(0, 2, photo.shape)
    levels: Image = np.rint(alpha * 255).astype(np.uint8)
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8), levels, subject.astype(np.uint8)


def _texture(rng: np.random.Generator, cells: int, least: int, most: int) -> NDArray[np.float32]:
    base = rng.uniform(least, most, 3)
    spots = rng.normal(0, 35, (cells, cells, 3)) + base
    large = cv2.resize(spots.astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(large, 0, 255).astype(np.float32)


def ours(photo: Image, alpha: Image) -> Image:
    """The worker's colours in the band of transition_pixels, the photo's own colours elsewhere."""
    places = transition_pixels(alpha)
    result = photo.copy()
    result.reshape(-1, 3)[places] = estimate_foreground(photo, alpha, places)
    return result


def pymatting(photo: Image, alpha: Image) -> Image:
    """PyMatting's multi-level estimate on all pixels, as PaddleSeg's script calls it."""
    colours = estimate_foreground_ml(photo / 255.0, alpha / 255.0)
    result: Image = np.clip(np.rint(colours * 255), 0, 255).astype(np.uint8)
    return result


def kept(photo: Image, _alpha: Image) -> Image:
    """No estimation: the old background stays visible as a halo."""
    return photo


def error(colours: Image, truth: Image, alpha: Image) -> float:
    """Visible error: the mean difference in grey levels where 0 < alpha < 255, weighted by
    alpha.
    """
    band = (alpha > 0) & (alpha < 255)
    difference = np.abs(colours[band].astype(float) - truth[band]).mean(1)
    return float(np.average(difference, weights=alpha[band]))


def main() -> None:
    """Headline: our error divided by PyMatting's."""
    cv2.setNumThreads(1)
    ways: dict[str, Colours] = {"ours": ours, "pymatting": pymatting, "kept": kept}
    errors: dict[str, dict[str, float]] = {name: {} for name in ways}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for kind in KINDS:
        found: dict[str, list[float]] = {name: [] for name in ways}
        for seed in range(SEEDS):
            photo, alpha, truth = composite(kind, seed)
            for name, way in ways.items():
                for _ in range(ROUNDS):
                    started = time.perf_counter()
                    colours = way(photo, alpha)
                    spent[name].append((time.perf_counter() - started) * 1e3)
                found[name].append(error(colours, truth, alpha))
        for name, values in found.items():
            errors[name][kind] = round(statistics.mean(values), 2)
    mean = {name: statistics.mean(values.values()) for name, values in errors.items()}
    details: dict[str, Any] = {
        "mean_error_grey_levels": errors,
        "median_ms": {name: round(statistics.median(ms), 1) for name, ms in spent.items()},
        "size": f"{SIZE[1]} x {SIZE[0]}",
    }
    ratio = mean["ours"] / mean["pymatting"]
    report("edges", ratio, target=None, unit="error / PyMatting's", details=details)


if __name__ == "__main__":
    main()
