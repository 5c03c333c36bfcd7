"""The photos that training starts from: read once, kept small in memory, split by name."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.backgrounds import Image

LONG_SIDE_PX = 560
"""Photos are kept at this size: about twice the side that the network sees."""

HELD_OUT_OF = 9
"""One in so many labelled photos never enters training; which one follows from its name."""

SMALLEST_WINDOW_PX = 80
WINDOW_TRIES = 300
"""For the backgrounds that are cut out beside a photo's subject."""


@dataclass(frozen=True)
class Labelled:
    """A photo [H, W, 3] uint8 RGB and its mask [H, W] uint8, 255 is the subject."""

    name: str
    image: Image
    mask: NDArray[np.uint8]


@dataclass
class Sources:
    """Everything that samples are composed from."""

    figures: list[Labelled] = field(default_factory=list)
    garments: list[Labelled] = field(default_factory=list)
    packshots: list[Labelled] = field(default_factory=list)
    scenes: list[Image] = field(default_factory=list)
    """Shop scenes: textures for drawn objects. They show goods, so no background is made of them
    unless it is far out of focus."""
    surroundings: list[Image] = field(default_factory=list)
    """Streets, beds and floors: what is beside the subjects of labelled photos, and scenes out of
    focus. Nothing in them is a subject, so what is pasted on them is the only one."""
    held_out: list[Labelled] = field(default_factory=list)


def is_held_out(name: str) -> bool:
    """Whether a photo belongs to the test split."""
    return zlib.crc32(name.encode()) % HELD_OUT_OF == 0


def read_rgb(path: Path, long_side_px: int = LONG_SIDE_PX) -> Image:
    """The photo as uint8 RGB, its longer side at most `long_side_px`. Raises OSError."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise OSError(f"unreadable: {path}")
    scale = long_side_px / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)


def load_sources(root: Path, labels: Path | None, *, held_out: bool = False) -> Sources:
    """Read `fashion/{images,masks}`, `products_on_white`, `scenes` under `root`, and, when `labels`
    holds masks of the same names (label_garments.py makes them), `garments`; `held_out` gives the
    scenes and packshots that training leaves out, instead of the others.
    """
    sources = Sources()
    for path in sorted((root / "fashion" / "images").iterdir()):
        mask_path = root / "fashion" / "masks" / f"{path.stem}.png"
        if not mask_path.exists():
            continue
        labelled = _labelled(path, mask_path)
        (sources.held_out if is_held_out(path.name) else sources.figures).append(labelled)
    for path in sorted((root / "products_on_white").iterdir()):
        if is_held_out(path.name) != held_out:
            continue
        image = read_rgb(path)
        sources.packshots.append(Labelled(path.name, image, key_white(image)))
    sources.scenes = [
        read_rgb(path)
        for path in sorted((root / "scenes").iterdir())
        if is_held_out(path.name) == held_out
    ]
    if labels is not None:
        for mask_path in sorted(labels.glob("*.png")):
            path = root / "garments" / f"{mask_path.stem}.jpg"
            sources.garments.append(_labelled(path, mask_path))
    beside = sources.held_out if held_out else sources.figures + sources.garments
    rng = np.random.default_rng(len(beside))
    sources.surroundings = [
        window for photo in beside if (window := _beside_subject(rng, photo)) is not None
    ] + [_defocused(rng, scene) for scene in sources.scenes]
    return sources


def _beside_subject(rng: np.random.Generator, photo: Labelled) -> Image | None:
    """The largest of some windows that hold nothing of the subject; None if all are small."""
    h, w = photo.mask.shape
    margin = np.ones((9, 9), np.uint8)  # the masks lack a little here and there
    taken = cv2.integral((cv2.dilate(photo.mask, margin) > 32).astype(np.uint8))
    best: tuple[int, int, int, int] | None = None
    largest = (SMALLEST_WINDOW_PX - 1) ** 2
    for _ in range(WINDOW_TRIES):
        height, width = rng.integers(SMALLEST_WINDOW_PX, (h, w))
        top, left = rng.integers(h - height + 1), rng.integers(w - width + 1)
        bottom, right = top + height, left + width
        inside = taken[bottom, right] - taken[top, right] - taken[bottom, left] + taken[top, left]
        if inside == 0 and height * width > largest:
            best, largest = (top, bottom, left, right), height * width
    if best is None:
        return None
    return np.ascontiguousarray(photo.image[best[0] : best[1], best[2] : best[3]])


def _defocused(rng: np.random.Generator, scene: Image) -> Image:
    sigma = rng.uniform(0.012, 0.05) * max(scene.shape[:2])
    return cv2.GaussianBlur(scene, (0, 0), sigma).astype(np.uint8)


def key_white(image: Image) -> NDArray[np.uint8]:
    """The mask of a packshot on pure white: what white from the border does not reach."""
    bright = image.min(2)
    flooded = np.pad((bright < 246).astype(np.uint8), 1)
    area = np.zeros((flooded.shape[0] + 2, flooded.shape[1] + 2), np.uint8)
    cv2.floodFill(flooded, area, (0, 0), 2)
    mask = (flooded[1:-1, 1:-1] != 2).astype(np.uint8) * 255
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.GaussianBlur(mask, (0, 0), 0.7).astype(np.uint8)


def _labelled(image_path: Path, mask_path: Path) -> Labelled:
    image = read_rgb(image_path)
    mask = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise OSError(f"unreadable: {mask_path}")
    size = (image.shape[1], image.shape[0])
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    return Labelled(image_path.name, image, mask.astype(np.uint8))
