"""Synthetic backgrounds for composites: plain, gradient, cloth, wood, tiles, noise, and photos."""

from collections.abc import Sequence

import cv2
import numpy as np

from worker.imaging.arrays import Image
from worker.training.arrays import Plane


def noise(rng: np.random.Generator, height: int, width: int, cells: float) -> Plane:
    """Smooth noise [H, W] float32, about -1..1, with `cells` periods along the longer side."""
    rows = max(2, round(cells * height / max(height, width)) + 2)
    columns = max(2, round(cells * width / max(height, width)) + 2)
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def random_colour(rng: np.random.Generator) -> Plane:
    """A colour [3] float32 in 0..255: often nearly white or grey, as in studios, else any."""
    kind = rng.random()
    if kind < 0.3:
        return (rng.uniform(205, 255) + rng.normal(0, 4, 3)).astype(np.float32)
    if kind < 0.5:
        return (rng.uniform(0, 255) + rng.normal(0, 8, 3)).astype(np.float32)
    return rng.uniform(0, 255, 3).astype(np.float32)


def background(rng: np.random.Generator, height: int, width: int, photos: Sequence[Image]) -> Plane:
    """Draw a background [H, W, 3] float32 in 0..255.

    It is one surface, or two that meet (wall and floor), with or without a sheet lying on it. Only
    the first surface may be a photo: a photo lying on a floor would itself be a subject.
    """
    result = _surface(rng, height, width, photos)
    if rng.random() < 0.22:
        _lay(rng, result, _surface(rng, height, width, ()), _edge_of_floor(rng, height, width))
    if rng.random() < 0.15:
        _lay(rng, result, _surface(rng, height, width, ()), _sheet(rng, height, width))
    return result


def _lay(rng: np.random.Generator, below: Plane, above: Plane, area: Plane) -> None:
    """Paste one surface over another where `area` [H, W] is 1, with a thin shadow at its edge."""
    size = max(area.shape)
    if rng.random() < 0.6:
        shade = cv2.GaussianBlur(area, (0, 0), rng.uniform(0.003, 0.02) * size)
        below *= (1 - rng.uniform(0.1, 0.5) * shade)[..., None]
    below += area[..., None] * (above - below)


def _edge_of_floor(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Mask [H, W] in 0..1 of everything on one side of a line across the image: a floor, table or
    bed.
    """
    if rng.random() < 0.75:
        left, right = (rng.uniform(0.3, 0.95) + rng.normal(0, 0.06, 2)) * height
        corners = [(0, left), (width, right), (width, height), (0, height)]
    else:
        top, bottom = (rng.uniform(0.1, 0.9) + rng.normal(0, 0.08, 2)) * width
        corners = [(0, 0), (top, 0), (bottom, height), (0, height)]
    return _filled(corners, height, width)


def _sheet(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Mask [H, W] in 0..1 of a rotated rectangle under the subject: paper, a rug or a towel."""
    turn = rng.normal(0, 0.25)
    half = rng.uniform(0.2, 0.55, 2) * (width, height)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ rotation.T
    centre = rng.uniform(0.35, 0.65, 2) * (width, height)
    return _filled((corners + centre).tolist(), height, width)


def _filled(corners: Sequence[Sequence[float]], height: int, width: int) -> Plane:
    area = np.zeros((height, width), np.uint8)
    cv2.fillPoly(area, [np.array(corners).astype(np.int32)], 255, cv2.LINE_AA)
    return (area / np.float32(255)).astype(np.float32)


def _surface(rng: np.random.Generator, height: int, width: int, photos: Sequence[Image]) -> Plane:
    kind = rng.random()
    if kind < 0.36 and len(photos):
        return _photo(rng, height, width, photos)
    colour = random_colour(rng)
    if kind < 0.46:
        if rng.random() < 0.4:
            return np.full((height, width, 3), 255, np.float32)
        return np.broadcast_to(colour, (height, width, 3)).astype(np.float32)
    shade: Plane = np.zeros((height, width), np.float32)
    if kind < 0.57:
        shade = _gradient(rng, height, width) * rng.uniform(5, 70)
    elif kind < 0.72:
        shade = _cloth(rng, height, width) * rng.uniform(8, 45)
        if rng.random() < 0.4:  # printed or checked sheet
            pattern = tiles(rng, height, width) > 0
            return np.clip(
                np.where(pattern[..., None], colour, random_colour(rng)) + shade[..., None], 0, 255
            ).astype(np.float32)
    elif kind < 0.80:
        shade = _wood(rng, height, width) * rng.uniform(8, 40)
    elif kind < 0.87:
        shade = tiles(rng, height, width) * rng.uniform(8, 50)
    elif kind < 0.94:
        shade = _slabs(rng, height, width) * rng.uniform(6, 40)
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
    """Folded cloth: ridged noise, distorted by coarser noise."""
    coarse = noise(rng, height, width, rng.uniform(2, 5))
    fine = noise(rng, height, width, rng.uniform(5, 14))
    folds = 1 - 2 * np.abs(coarse + 0.4 * fine)
    if rng.random() < 0.5:  # crumpled cloth has creases inside the folds
        creases = np.abs(noise(rng, height, width, rng.uniform(12, 35)))
        folds = folds + rng.uniform(0.3, 1.0) * (0.5 - 2 * creases)
    return folds.astype(np.float32)


def _slabs(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Floor tiles of slightly different tones, seen at an angle, with joints."""
    side = max(height, width)
    tilt = rng.uniform(0, 0.5)
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / side
    depth = 1 + tilt * (0.5 - y)
    x, y = (x - 0.5) / depth, (y - 0.5) / depth
    count = rng.uniform(2, 9)
    u = (x * np.cos(turn) + y * np.sin(turn)) * count + 40
    v = (-x * np.sin(turn) + y * np.cos(turn)) * count + 40
    tones = rng.normal(0, rng.uniform(0.1, 0.8), (80, 80)).astype(np.float32)
    plane = tones[u.astype(int) % 80, v.astype(int) % 80]
    joint = rng.uniform(0.01, 0.06)
    lines = (np.abs(u % 1 - 0.5) > 0.5 - joint) | (np.abs(v % 1 - 0.5) > 0.5 - joint)
    return np.where(lines, rng.choice([-1.5, 1.5]), plane).astype(np.float32)


def _wood(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Wooden boards: grain along one axis, with gaps."""
    turned = rng.random() < 0.5
    h, w = (width, height) if turned else (height, width)
    grain = rng.normal(0, 1, (h, max(2, w // 24))).astype(np.float32)
    plane = cv2.resize(grain, (w, h), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    plane = cv2.GaussianBlur(plane, (0, 0), 0.8).astype(np.float32)
    board = int(rng.integers(max(8, h // 10), max(9, h // 2)))
    for top in range(int(rng.integers(board)), h, board):
        plane[top : top + int(rng.integers(1, 4))] -= rng.uniform(1, 4)
    return np.ascontiguousarray(plane.T if turned else plane)


def tiles(rng: np.random.Generator, height: int, width: int) -> Plane:
    """A pattern [H, W] float32 of stripes, checks or dots with the values -1 and 1."""
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
