"""Composes one training sample: a crop of a real photo, or subjects pasted on a background."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Image
from worker.training.arrays import Alpha, Colour
from worker.training.backgrounds import background
from worker.training.pasting import SHARE_ONE_TONE, clean_colour, paste, shadowed
from worker.training.products import render_product
from worker.training.render import render_carton, render_object
from worker.training.sources import Labelled, Sources

SHARES_REAL = {"figures": 0.08, "garments": 0.13, "people": 0.08, "goods": 0.10, "exact": 0.05}
"""Shares of all samples that are crops of real photos, by list of `Sources`. If a list is empty,
something is pasted instead.
"""

SHARE_REGROUNDED = 0.12
"""Share of all samples that keep the subject of a real photo in its place and get a new background.
Half figures stay cut by the frame this way.
"""

SHARE_EMPTY = 0.02
"""Share of all samples that show only a background. The rest is pasted."""

SHARE_GROUND_RETONED = 0.35
"""Share of the real photos whose background gets another tone."""

SURE = 0.98
"""A photo's subject is pasted only if at least this share of its pixels has a loss weight above 0.
"""

SHARE_SEVERAL = 0.1
"""Share of the pasted samples that show two subjects."""

Subjects = Literal["all", "products", "shapes"]
"""What is pasted. "all": everything, for training. "products": what shops sell. "shapes": mostly
abstract objects, which are harder to tell from their surroundings.
"""

SHARES: dict[Subjects, tuple[float, ...]] = {
    "all": (0.06, 0.08, 0.34, 0.02, 0.10, 0.10, 0.16, 0.14),
    "products": (0.08, 0.0, 0.6, 0.16, 0.0, 0.16, 0.0, 0.0),
    "shapes": (0.08, 0.38, 0.0, 0.18, 0.0, 0.36, 0.0, 0.0),
}
"""Probability of each kind: cartons, abstract objects, drawn products, packshots, garments,
figures, exact cut-outs, goods.
"""

EXACT_KIND = 6
"""From this kind on, alpha is as exact as the photo. The masks of the kinds before reach slightly
too far outside.
"""

TRIES = 6
LEAST_AREA, MOST_AREA = 0.02, 0.8
MOST_CUT = 0.3
"""At most this share of the frame may run through the pasted subject."""
SEEN_LEVELS, SEEN_SHARE = 14, 0.6
"""A pasted subject counts as visible if at least SEEN_SHARE of its edge differs by at least
SEEN_LEVELS (of 255) from what it covers.
"""


@dataclass(frozen=True)
class Sample:
    """One training sample.

    image [H, W, 3] is uint8 RGB, alpha [H, W] float32 in 0..1. `worth` [H, W] in 0..1 is the loss
    weight of each pixel.
    """

    image: Image
    alpha: Alpha
    worth: Alpha


def compose(
    rng: np.random.Generator,
    sources: Sources,
    height: int,
    width: int,
    *,
    only_pasted: Subjects | None = None,
) -> Sample:
    """Draw a sample of the given size. `only_pasted` limits it to these subjects, whose alpha is
    exact.
    """
    kind = 1.0 if only_pasted else rng.random()
    worth = np.ones((height, width), np.float32)
    for name, share in SHARES_REAL.items():
        kind -= share
        if kind < 0 and (photos := getattr(sources, name)):
            colour, alpha, worth = _crop(rng, _pick(rng, photos), height, width)
            if rng.random() < SHARE_GROUND_RETONED:
                colour = _retone_ground(rng, colour, alpha)
            return Sample(photograph(rng, colour), alpha, worth)
    if kind < 0 or (not only_pasted and kind < SHARE_REGROUNDED):
        colour, alpha, worth = _reground(rng, sources, height, width)
    else:
        colour = background(rng, height, width, sources.surroundings)
        alpha = np.zeros((height, width), np.float32)
        if only_pasted or rng.random() > SHARE_EMPTY:
            # Evaluation pastes one subject only: of two, nobody can say which one is meant.
            several = not only_pasted and rng.random() < SHARE_SEVERAL
            for _ in range(1 + several):
                colour, alpha = _paste_fairly(rng, colour, alpha, sources, only_pasted or "all")
    return Sample(photograph(rng, colour), alpha, worth)


def _reground(
    rng: np.random.Generator, sources: Sources, height: int, width: int
) -> tuple[Colour, Alpha, Alpha]:
    lists = [sources.people, sources.exact, sources.garments, sources.figures, sources.goods]
    photos = lists[rng.choice(len(lists), p=(0.4, 0.2, 0.15, 0.15, 0.1))] or sources.figures
    colour, alpha, worth = _crop(rng, _pick(rng, photos), height, width)
    ground = background(rng, height, width, sources.surroundings)
    subject = clean_colour(colour, alpha)
    if rng.random() < SHARE_ONE_TONE and alpha.sum() > 100:
        mean = (subject * alpha[..., None]).sum((0, 1)) / alpha.sum()
        subject = subject + (ground.mean((0, 1)) - mean) * rng.uniform(0.5, 0.9)
    ground = shadowed(rng, ground, alpha)
    mixed = alpha[..., None] * np.clip(subject, 0, 255) + (1 - alpha[..., None]) * ground
    return mixed.astype(np.float32), alpha, worth


def _retone_ground(rng: np.random.Generator, colour: Colour, alpha: Alpha) -> Colour:
    """Make the background lighter, darker or tinted. The subject keeps its colours."""
    toned = colour * rng.uniform(0.6, 1.25) * (1 + rng.normal(0, 0.08, 3))
    toned = np.clip(toned + rng.uniform(-30, 30), 0, 255)
    return (colour * alpha[..., None] + toned * (1 - alpha[..., None])).astype(np.float32)


def _pick(rng: np.random.Generator, photos: list[Labelled]) -> Labelled:
    return photos[rng.integers(len(photos))]


def _crop(
    rng: np.random.Generator, photo: Labelled, height: int, width: int
) -> tuple[Colour, Alpha, Alpha]:
    """Crop a window of the photo, whole or a close-up, slightly rotated, without distortion."""
    h, w = photo.mask.shape
    window = min(h / height, w / width) * rng.uniform(0.95, 1.25)
    if rng.random() < 0.45:
        window *= rng.uniform(0.35, 0.9)
    centre = np.array([rng.uniform(0.3, 0.7) * w, rng.uniform(0.25, 0.75) * h])
    turn = rng.normal(0, 0.06)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * window
    linear[:, 0] *= flip
    shift = centre - linear @ np.array([width / 2, height / 2])
    matrix = np.concatenate([linear, shift[:, None]], 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def moved(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.warpAffine(
            plane, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.uint8)

    alpha = _share(moved(photo.mask))
    worth: Alpha = np.ones((height, width), np.float32)
    if photo.worth is not None:
        worth = _share(moved(photo.worth))
    return moved(photo.image).astype(np.float32), _soften(alpha), worth


def _share(plane: NDArray[np.uint8]) -> Alpha:
    """Convert 0..255 to 0..1."""
    return (plane / np.float32(255)).astype(np.float32)


def _soften(alpha: Alpha) -> Alpha:
    """Blur a hard mask slightly, since an edge in a photo is about one pixel wide."""
    return cv2.GaussianBlur(alpha, (0, 0), 0.6).astype(np.float32)


def _subject(
    rng: np.random.Generator, sources: Sources, subjects: Subjects
) -> tuple[Colour, Alpha]:
    """Draw or pick a subject to paste: colour [h, w, 3] in 0..255 and alpha [h, w] in 0..1."""
    kind = rng.choice(8, p=SHARES[subjects])
    if kind == 0:
        return render_carton(rng, int(rng.integers(160, 300)), sources.scenes)
    if kind <= 2:
        textures = (
            sources.scenes if rng.random() < 0.4 else [p.image for p in sources.figures[:200]]
        )
        draw = render_object if kind == 1 else render_product
        return draw(rng, int(rng.integers(160, 300)), textures)
    if kind == 3:
        photo = _pick(rng, sources.packshots)
        return photo.image.astype(np.float32), _share(photo.mask)
    lists = {4: sources.garments, 5: sources.figures, 6: sources.exact, 7: sources.goods}
    photo = _pick(rng, lists[kind] or sources.figures)
    if photo.worth is not None and (photo.worth > 0).mean() < SURE:
        photo = _pick(rng, sources.figures)
    rows, columns = np.where(photo.mask > 127)
    if len(rows) < 500:
        return photo.image.astype(np.float32), _share(photo.mask)
    window = np.s_[
        max(0, rows.min() - 4) : rows.max() + 5, max(0, columns.min() - 4) : columns.max() + 5
    ]
    colour, alpha = photo.image[window].astype(np.float32), _share(photo.mask[window])
    if kind >= EXACT_KIND:
        return clean_colour(colour, alpha), alpha
    return colour, _soften(cv2.erode(alpha, np.ones((3, 3), np.uint8)).astype(np.float32))


def _paste_fairly(
    rng: np.random.Generator,
    colour: Colour,
    alpha: Alpha,
    sources: Sources,
    subjects: Subjects,
) -> tuple[Colour, Alpha]:
    """Paste a subject so that a person could say what the subject is.

    Enough of it must be in the frame, it must not fill or cross the frame too much, and most of its
    edge must be visible. After TRIES attempts the last one is kept.
    """
    for _ in range(TRIES):
        subject, matte = _subject(rng, sources, subjects)
        pasted, union = paste(rng, colour, alpha, subject, matte)
        added = union - alpha
        edge = (np.abs(cv2.Laplacian(cv2.blur(added, (5, 5)), cv2.CV_32F)) > 0.02) & (added > 0.02)
        seen = np.abs(pasted - colour).mean(2)[edge]
        if (
            added.mean() > LEAST_AREA
            and union.mean() < MOST_AREA
            and _frame(union).mean() < MOST_CUT
            and len(seen)
            and np.mean(seen > SEEN_LEVELS) > SEEN_SHARE
        ):
            break
    return pasted, union


def _frame(plane: Alpha) -> Alpha:
    return np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])


def photograph(rng: np.random.Generator, colour: Colour) -> Image:
    """Apply exposure, white balance, defocus, grain and JPEG, as cameras and shops do."""
    colour = colour * (1 + rng.normal(0, 0.05, 3)) * rng.uniform(0.8, 1.2)
    if rng.random() < 0.3:
        colour = 255 * (np.clip(colour, 0, 255) / 255) ** rng.uniform(0.7, 1.4)
    if rng.random() < 0.1:
        colour = np.repeat(colour.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.25:
        colour = cv2.GaussianBlur(colour, (0, 0), rng.uniform(0.3, 1.1))
    if rng.random() < 0.4:
        colour = colour + rng.normal(0, rng.uniform(1, 7), colour.shape)
    image: NDArray[np.uint8] = np.clip(colour, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        decoded = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
        image = np.asarray(decoded, np.uint8)
    return image
