"""Loads the photos for training: scaled down, kept in memory, split by name."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Image
from worker.training.splits import (
    FEW,
    HELD_OUT_OF,
    HELD_OUT_OF_FEW,
    KINDS,
    WRONG_LABELS,
    group_of,
    is_held_out,
    sessions,
)

LONG_SIDE_PX = 560
"""Longer side of the photos in memory: about twice the side of the network's input."""

WORTH_ALL = 255

GROUNDS_REPEATED = 4
"""How often each photographed background is repeated among the surroundings: there are few."""

SMALLEST_WINDOW_PX = 80
WINDOW_TRIES = 300
"""How many random windows are tried to find a background beside a photo's subject."""


@dataclass(frozen=True)
class Labelled:
    """A photo [H, W, 3] uint8 RGB and its mask [H, W] uint8, where 255 is the subject."""

    name: str
    image: Image
    mask: NDArray[np.uint8]
    worth: NDArray[np.uint8] | None = None
    """Loss weight of each pixel of the mask; 255 is full weight. None: full weight everywhere."""


@dataclass
class Sources:
    """Everything that samples are composed of."""

    figures: list[Labelled] = field(default_factory=list)
    garments: list[Labelled] = field(default_factory=list)
    packshots: list[Labelled] = field(default_factory=list)
    people: list[Labelled] = field(default_factory=list)
    """Portraits, and half figures on white."""
    goods: list[Labelled] = field(default_factory=list)
    """Appliances, outdoor goods, everyday objects and cars, in their surroundings."""
    exact: list[Labelled] = field(default_factory=list)
    """Photos with an exact alpha, for composites: cut-outs, and photos keyed from white."""
    scenes: list[Image] = field(default_factory=list)
    """Shop scenes, used as textures of drawn objects. They show goods. So they become backgrounds
    only when they are far out of focus.
    """
    surroundings: list[Image] = field(default_factory=list)
    """Backgrounds: areas beside the subjects of labelled photos (streets, beds, floors), scenes out
    of focus, photographed grounds (brick, planks). None of them contains a subject, so the pasted
    subject is the only one.
    """
    held_out: list[Labelled] = field(default_factory=list)
    """The held-out figures of the fashion set."""
    held_out_kinds: dict[str, list[Labelled]] = field(default_factory=dict)
    """Held-out photos with labels, by kind (splits.KINDS), without those whose label is wrong."""


def read_rgb(path: Path, long_side_px: int = LONG_SIDE_PX) -> Image:
    """Read a photo as uint8 RGB with a longer side of at most `long_side_px`. A cut-out gets a
    white background. Raises OSError.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED if path.suffix == ".png" else 1)
    if image is None:
        raise OSError(f"unreadable: {path}")
    if image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3:] / np.float32(255)
        image = (image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    scale = long_side_px / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)


def load_sources(root: Path, labels: Path | None, *, held_out: bool = False) -> Sources:
    """Read the photos under `root`.

    The folders `fashion/{images,masks}`, `products_on_white` and `scenes` are always read. With
    `labels` (a folder that make_labels.py wrote) also the labelled photos and `grounds`. `held_out`
    selects the scenes and packshots that training leaves out, instead of the others.
    """
    sources = Sources()
    for path in sorted((root / "fashion" / "images").iterdir()):
        mask_path = root / "fashion" / "masks" / f"{path.stem}.png"
        if not mask_path.exists():
            continue
        labelled = _labelled(path, mask_path)
        (sources.held_out if is_held_out(path.name) else sources.figures).append(labelled)
    sources.held_out_kinds["fashion"] = [
        photo for photo in sources.held_out if _is_scored("fashion", photo)
    ]
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
        _read_labelled(sources, root, labels)
    beside = sources.held_out if held_out else sources.figures + sources.garments + sources.goods
    rng = np.random.default_rng(len(beside))
    sources.surroundings = [
        window for photo in beside if (window := _beside_subject(rng, photo)) is not None
    ] + [_defocused(rng, scene) for scene in sources.scenes]
    if labels is not None:
        grounds = [read_rgb(path) for path in sorted((root / "grounds").glob("*"))]
        sources.surroundings += grounds * GROUNDS_REPEATED
    return sources


def _read_labelled(sources: Sources, root: Path, labels: Path) -> None:
    into: dict[str, list[list[Labelled]]] = {
        "garments": [sources.garments],
        "clothing": [sources.garments],
        "portraits": [sources.people],
        "models_on_white": [sources.people, sources.exact],
        "appliances": [sources.goods],
        "outdoor": [sources.goods],
        "objects": [sources.goods],
        "cars": [sources.goods],
        "dishes_on_white": [sources.exact],
        "products_on_white": [sources.exact],
        "cutouts": [sources.exact],
    }
    kinds = {folder: kind for kind, folders in KINDS.items() for folder in folders}
    found = {folder: _labelled_photos(root / folder, labels / folder) for folder in into}
    together = {photo.name: photo.image for name in KINDS["garments"] for photo in found[name]}
    session_of = sessions(together)
    for folder, lists in into.items():
        rarity = HELD_OUT_OF_FEW if folder in FEW else HELD_OUT_OF
        for photo in found[folder]:
            group = session_of.get(photo.name) or group_of(folder, photo.name)
            if folder in kinds and is_held_out(group, rarity):
                if _is_scored(folder, photo):
                    sources.held_out_kinds.setdefault(kinds[folder], []).append(photo)
            else:
                for one in lists:
                    one.append(photo)


def _is_scored(folder: str, photo: Labelled) -> bool:
    return f"{folder}/{Path(photo.name).stem}" not in WRONG_LABELS


def _labelled_photos(photos: Path, labels: Path) -> list[Labelled]:
    """The photos of a folder that have a label."""
    found = []
    for path in sorted(photos.glob("*")):
        mask = labels / f"{path.stem}.png"
        if mask.exists():
            found.append(_labelled(path, mask, labels / f"{path.stem}.worth.png"))
    return found


def _beside_subject(rng: np.random.Generator, photo: Labelled) -> Image | None:
    """Cut out the largest of several random windows without any part of the subject. Returns None
    if all are too small.
    """
    h, w = photo.mask.shape
    margin = np.ones((9, 9), np.uint8)  # the masks are slightly too small in places
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
    """The mask of a packshot on pure white: all pixels that are not white or not connected with the
    border.
    """
    bright = image.min(2)
    flooded = np.pad((bright < 246).astype(np.uint8), 1)
    area = np.zeros((flooded.shape[0] + 2, flooded.shape[1] + 2), np.uint8)
    cv2.floodFill(flooded, area, (0, 0), 2)
    mask = (flooded[1:-1, 1:-1] != 2).astype(np.uint8) * 255
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.GaussianBlur(mask, (0, 0), 0.7).astype(np.uint8)


def _labelled(image_path: Path, mask_path: Path, worth_path: Path | None = None) -> Labelled:
    image = read_rgb(image_path)
    worth = _plane(worth_path, image) if worth_path and worth_path.exists() else None
    if worth is not None and worth.min() == WORTH_ALL:
        worth = None
    return Labelled(image_path.name, image, _plane(mask_path, image), worth)


def _plane(path: Path, image: Image) -> NDArray[np.uint8]:
    stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if stored is None:
        raise OSError(f"unreadable: {path}")
    size = (image.shape[1], image.shape[0])
    return cv2.resize(stored, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
