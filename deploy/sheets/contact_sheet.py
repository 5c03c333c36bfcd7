"""The contact sheet of a job: original | alpha | cut-out on a checkerboard, for each photo."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw

from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.decoding import decode

TILE_PX = 240
CAPTION_PX = 20
GAP_PX = 6
COLUMNS = 3
"""Photos side by side, each as three tiles."""

CHECK_PX = 12
CHECK_TONES = (184, 158)
"""Grey levels of the checkerboard. Leftovers of a white background or a shadow are visible on
both."""


def write_contact_sheet(pairs: Sequence[tuple[Path, Path, str]], target: Path) -> None:
    """Draw triples of (original, cut-out with alpha, caption) into one PNG."""
    cells = [_cell(original, result, caption) for original, result, caption in pairs]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[i : i + COLUMNS], 1) for i in range(0, len(cells), COLUMNS)]
    target.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.concatenate(rows)).save(target, optimize=True)


def _cell(original: Path, result: Path, caption: str) -> Image:
    before = decode(original.read_bytes(), Settings(), min_side_px=TILE_PX).image
    with PIL.Image.open(result) as picture:
        rgba = np.asarray(picture.convert("RGBA"))
    before, rgba = shrink_to_fit(before), shrink_to_fit(rgba)
    alpha = rgba[..., 3]
    share = alpha[..., None].astype(np.float32) / 255
    after = rgba[..., :3] * share + checkerboard(*alpha.shape)[..., None] * (1 - share)
    grey = np.repeat(alpha[..., None], 3, 2)
    tiles = np.concatenate([on_white_tile(one) for one in (before, grey, np.rint(after))], 1)
    strip = PIL.Image.new("RGB", (tiles.shape[1], CAPTION_PX), "white")
    ImageDraw.Draw(strip).text((GAP_PX, 3), caption[-90:], fill=(60, 60, 60))
    return np.concatenate([tiles, np.asarray(strip)])


def shrink_to_fit(picture: Image, side: int = TILE_PX - GAP_PX) -> Image:
    """Shrink an image [h, w, …] uint8 so that its longer side is at most `side` pixels."""
    scale = min(1.0, side / max(picture.shape[:2]))
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def on_white_tile(picture: NDArray[np.generic]) -> Image:
    """Centre an image on a white square [TILE_PX, TILE_PX, 3] uint8."""
    tile = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    height, width = picture.shape[:2]
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    tile[top : top + height, left : left + width] = picture
    return tile


def checkerboard(height: int, width: int) -> NDArray[np.float32]:
    """A checkerboard [h, w] float32 in 0..255, shown behind transparent pixels."""
    y, x = np.mgrid[0:height, 0:width] // CHECK_PX
    return np.where((x + y) % 2, *CHECK_TONES[::-1]).astype(np.float32)
