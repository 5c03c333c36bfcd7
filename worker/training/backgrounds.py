"""Backgrounds to paste on: plain, gradient, folded cloth, wood, tiles, noise, and photographed."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[Any]
"""float32; cv2's stubs know no more than 'some number'."""


def noise(rng: np.random.Generator, height: int, width: int, cells: float) -> Plane:
    """Smooth noise [H, W] float32, about -1..1, with `cells` bumps along the longer side."""
    rows = max(2, round(cells * height / max(height, width)) + 2)
    columns = max(2, round(cells * width / max(height, width)) + 2)
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def random_colour(rng: np.random.Generator) -> Plane:
    """[3] float32 in 0..255: often near white, grey or black, as studios are; else any."""
    kind = rng.random()
    if kind < 0.3:
        return (rng.uniform(205, 255) + rng.normal(0, 4, 3)).astype(np.float32)
    if kind < 0.5:
        return (rng.uniform(0, 255) + rng.normal(0, 8, 3)).astype(np.float32)
    return rng.uniform(0, 255, 3).astype(np.float32)


def background(rng: np.random.Generator, height: int, width: int, photos: Sequence[Image]) -> Plane:
    """A background [H, W, 3] float32 in 0..255."""
    kind = rng.random()
    if kind < 0.38 and len(photos):
        return _photo(rng, height, width, photos)
    colour = random_colour(rng)
    if kind < 0.46:
        if rng.random() < 0.4:
            return np.full((height, width, 3), 255, np.float32)
        return np.broadcast_to(colour, (height, width, 3)).astype(np.float32)
    shade: Plane = np.zeros((height, width), np.float32)
    if kind < 0.62:
        shade = _gradient(rng, height, width) * rng.uniform(5, 70)
    elif kind < 0.78:
        shade = _cloth(rng, height, width) * rng.uniform(8, 40)
    elif kind < 0.86:
        shade = _wood(rng, height, width) * rng.uniform(8, 40)
    elif kind < 0.93:
        shade = _tiles(rng, height, width) * rng.uniform(8, 50)
    else:
        shade = rng.normal(0, 1, (height, width)).astype(np.float32) * rng.uniform(2, 30)
        shade = cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.4, 2)).astype(np.float32) * 2
    shade = shade + _gradient(rng, height, width) * rng.uniform(0, 25)
    tint = rng.uniform(0.7, 1.3, 3).astype(np.float32)
    return np.clip(colour + shade[..., None] * tint, 0, 255).astype(np.float32)


def _photo(rng: np.random.Generator, height: int, width: int, photos: Sequence[Image]) -> Plane:
    photo = photos[int(rng.integers(len(photos)))]
    h, w = photo.shape[:2]
    scale = rng.uniform(0.35, 1.0)
    ratio = width / height
    crop_h = int(min(h, w / ratio) * scale)
    crop_w = int(crop_h * ratio)
    top, left = rng.integers(h - crop_h + 1), rng.integers(w - crop_w + 1)
    crop = photo[top : top + crop_h, left : left + crop_w]
    result = cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    if rng.random() < 0.5:
        result = cv2.GaussianBlur(result, (0, 0), rng.uniform(0.5, 6)).astype(np.float32)
    if rng.random() < 0.5:
        result = result[:, ::-1]
    return np.ascontiguousarray(result)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Plane:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        plane = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)
    else:
        cx, cy = rng.uniform(0.2, 0.8, 2)
        plane = 0.5 - np.hypot(x / width - cx, y / height - cy)
    return (2 * plane).astype(np.float32)


def _cloth(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Folds: ridged noise, warped by coarser noise."""
    coarse = noise(rng, height, width, rng.uniform(2, 5))
    fine = noise(rng, height, width, rng.uniform(5, 14))
    return (1 - 2 * np.abs(coarse + 0.4 * fine)).astype(np.float32)


def _wood(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Grain along one side, with the gaps between boards."""
    turned = rng.random() < 0.5
    h, w = (width, height) if turned else (height, width)
    grain = rng.normal(0, 1, (h, max(2, w // 24))).astype(np.float32)
    plane = cv2.resize(grain, (w, h), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    plane = cv2.GaussianBlur(plane, (0, 0), 0.8).astype(np.float32)
    board = int(rng.integers(max(8, h // 10), max(9, h // 2)))
    for top in range(int(rng.integers(board)), h, board):
        plane[top : top + int(rng.integers(1, 4))] -= rng.uniform(1, 4)
    return np.ascontiguousarray(plane.T if turned else plane)


def _tiles(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Stripes, checks or dots in two tones."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    period = rng.uniform(8, 80)
    u = (x * np.cos(angle) + y * np.sin(angle)) / period
    v = (-x * np.sin(angle) + y * np.cos(angle)) / period
    kind = rng.random()
    if kind < 0.35:
        return np.sign(np.sin(2 * np.pi * u)).astype(np.float32)
    if kind < 0.7:
        return np.sign(np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v)).astype(np.float32)
    return np.where(np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.1, 0.4), 1, -1).astype(
        np.float32
    )
