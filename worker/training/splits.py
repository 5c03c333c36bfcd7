"""Decides which photos are held out: whole groups of similar photos, chosen by the group's name."""

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HELD_OUT_OF = 9
"""One in this many groups is held out."""

HELD_OUT_OF_FEW = 5
"""The same for folders with about a hundred photos."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "fashion": ("fashion",),
    "people": ("portraits", "models_on_white"),
    "garments": ("garments", "clothing"),
    "products": ("products_on_white", "dishes_on_white", "cutouts"),
    "objects": ("objects",),
    "shop": ("appliances", "outdoor"),
}
"""The kinds of held-out photos and their folders. Scores are averaged over kinds."""

FEW = ("portraits", "appliances", "outdoor", "cutouts")

WRONG_LABELS = frozenset(
    {
        "fashion/0142",  # a piece of a car
        "fashion/0161",  # the shadow on the road
        "garments/dress-221f6226",  # pieces of the printed sheet
        "garments/longsleeve-0c4fe429",  # one sleeve is half-transparent
        "garments/longsleeve-3310d6ef",  # both sleeves and a shoulder are missing
        "models_on_white/wj04-white_alt1",  # the white jacket is missing
        "models_on_white/wj04-white_alternate",  # the same
    }
)
"""Held-out photos (FOLDER/STEM) that are not scored, because their label is wrong: it contains a
thing that is not the subject, or a whole part of the subject is missing or half-transparent. All
514 labels were looked at on contact sheets, without any answer of the model beside them.
"""

COLOURS = (
    "black|white|grey|gray|red|blue|green|pink|purple|silver|gold|rose|matte|dark|light|yellow|"
    "orange|brown|stainless|steel|chrome|gunmetal|cream|beige|bronze|copper|navy"
)

SAME_BORDER_LEVELS = 11.0
"""Photos whose border strips differ by less (mean, in levels of 255) were taken in one session: on
the same bed, board or floor, in the same light.
"""


def is_held_out(group: str, out_of: int = HELD_OUT_OF) -> bool:
    """Whether a group of photos belongs to the held-out split."""
    return zlib.crc32(group.encode()) % out_of == 0


def group_of(folder: str, name: str) -> str:
    """The group of a photo, by its name.

    Groups are views of one dish, colours of one appliance, one series of models, neighbours in a
    numbered set.
    """
    stem = Path(name).stem.lower()
    if folder == "dishes_on_white":
        return re.sub(r"_\d+$", "", stem)
    if folder == "models_on_white":
        return re.sub(r"\d.*$", "", stem)  # mh, wsh, ug: series of photos
    if folder == "appliances":
        return "-".join(re.sub(rf"\b({COLOURS}|and)\b", "", stem).split("-")[:2])
    if folder == "cutouts":
        return re.sub(rf"\b({COLOURS}|saleor|front|back|\d+)\b|-", "", stem)
    if folder == "objects":
        kind, number = re.match(r".*?([a-z]+)(\d+)$", stem).groups()  # type: ignore[union-attr]
        return f"{kind}{int(number) // 10}"
    return name


def sessions(images: Mapping[str, NDArray[np.uint8]]) -> dict[str, str]:
    """Group photos by session: photos whose borders look alike, directly or through other photos.

    Returns the group's name (the first photo's) for each photo.
    """
    names = sorted(images)
    borders = [_border(images[name]) for name in names]
    groups = list(range(len(names)))
    for at in range(1, len(names)):
        near = np.abs(np.stack(borders[:at]) - borders[at]).mean(1)
        for other in np.nonzero(near < SAME_BORDER_LEVELS)[0]:
            a, b = _root(groups, at), _root(groups, int(other))
            groups[max(a, b)] = min(a, b)
    return {name: names[_root(groups, at)] for at, name in enumerate(names)}


def _root(groups: Sequence[int], at: int) -> int:
    while groups[at] != at:
        at = groups[at]
    return at


def _border(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = cv2.resize(image, (12, 12), interpolation=cv2.INTER_AREA).astype(np.float32)
    inner = np.ones((12, 12), bool)
    inner[2:-2, 2:-2] = False
    return small[inner].ravel()
