"""Scenes with known alpha for benchmarks of clips: a subject moves over a moving ground."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.photos import NOISE
from worker.imaging.arrays import Alpha, Image
from worker.training.backgrounds import background
from worker.training.products import render_product

Floats = NDArray[np.float32]
SIZE = (360, 640)
"""Height and width of a frame."""


@dataclass(frozen=True)
class Scene:
    """Frames [H, W, 3] uint8 RGB and their true alphas [H, W] in 0..1."""

    frames: list[Image]
    alphas: list[Alpha]
    places: list[Floats]
    """The affine map [2, 3] of each frame from the subject's own pixels to the frame's."""


def drawn_scenes() -> Callable[[int, int], Scene]:
    """Makes scenes of drawn products, each from its number and its count of frames."""

    def make(number: int, count: int) -> Scene:
        rng = np.random.default_rng(1_000 + number)
        colour, alpha = render_product(rng, 300, ())
        return _scene(rng, colour, alpha, count)

    return make


def scenes_of(folder: Path) -> Callable[[int, int], Scene]:
    """Makes scenes of the cut-outs with transparency in a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".webp"))

    def make(number: int, count: int) -> Scene:
        rng = np.random.default_rng(2_000 + number)
        for path in paths[number * 7 % len(paths) :]:
            read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if read is not None and read.ndim == 3 and read.shape[2] == 4:
                break
        else:
            raise ValueError("no cut-outs found")
        scale = 300 / max(read.shape[:2])
        small = cv2.resize(read, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        colour = small[..., 2::-1].astype(np.float32)
        return _scene(rng, colour, small[..., 3].astype(np.float32) / np.float32(255), count)

    return make


def _scene(rng: np.random.Generator, colour: Floats, alpha: Floats, count: int) -> Scene:
    """Move, turn and scale the subject; move and zoom the ground another way."""
    height, width = SIZE
    ground = background(rng, height + 160, width + 160, ())
    ground = np.clip(ground + rng.normal(0, 6, ground.shape), 0, 255).astype(np.float32)
    speed, drift = rng.uniform(-3.5, 3.5, 2), rng.uniform(-2.5, 2.5, 2)
    turn, growth = rng.uniform(-0.012, 0.012), rng.uniform(-0.003, 0.003)
    frames: list[Image] = []
    alphas: list[Alpha] = []
    places: list[Floats] = []
    for t in range(count):
        at = t - count / 2
        angle, scale = turn * at, 1 + growth * at
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = np.array([width, height]) / 2 + speed * at + 2 * np.sin(0.7 * t)
        shift = centre - linear @ np.array([colour.shape[1], colour.shape[0]]) / 2
        matrix = np.concatenate([linear, shift[:, None]], 1)
        moved = cv2.warpAffine(colour, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        true = cv2.warpAffine(alpha, matrix, (width, height)).astype(np.float32)
        zoom = 1 + 0.001 * at
        view = np.array([[zoom, 0, -80 + drift[0] * at], [0, zoom, -80 + drift[1] * at]])
        behind = cv2.warpAffine(ground, view, (width, height), borderMode=cv2.BORDER_REFLECT)
        mixed = moved * true[..., None] + behind * (1 - true[..., None])
        mixed = mixed + rng.normal(0, NOISE, mixed.shape)
        frames.append(np.clip(mixed, 0, 255).astype(np.uint8))
        alphas.append(true)
        places.append(matrix.astype(np.float32))
    return Scene(frames, alphas, places)
