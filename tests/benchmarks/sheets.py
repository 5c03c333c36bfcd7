"""Pages of before | after on a checkerboard with numbers, for labelling."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageDraw

from deploy.sheets.contact_sheet import checkerboard, shrink_to_fit
from worker.imaging.arrays import Image

COLUMNS, ROWS = 4, 3
TILE = (300, 230)
"""Height and width in pixels."""

CAPTION_PX = 16


def write_sheets(out: Path, shown: Sequence[tuple[str, Image, Image]]) -> None:
    """Write `sheet-000.png`, …, each named by the number of its first photo. The rows are (caption,
    photo [H, W, 3], matte [H, W]).
    """
    out.mkdir(parents=True, exist_ok=True)
    size = COLUMNS * ROWS
    for start in range(0, len(shown), size):
        cells = [_cell(*one) for one in shown[start : start + size]]
        cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
        rows = [np.concatenate(cells[i : i + COLUMNS], 1) for i in range(0, len(cells), COLUMNS)]
        PIL.Image.fromarray(np.concatenate(rows)).save(out / f"sheet-{start:03}.png")


def _cell(caption: str, photo: Image, matte: Image) -> Image:
    share = matte[..., None].astype(np.float32) / 255
    # lilac, because no garment is
    ground = checkerboard(*matte.shape)[..., None] * np.array([1.0, 0.8, 1.0])
    after = np.rint(photo * share + ground * (1 - share)).astype(np.uint8)
    tiles = np.concatenate([_tile(photo), _tile(after)], 1)
    strip = PIL.Image.new("RGB", (tiles.shape[1], CAPTION_PX), "white")
    ImageDraw.Draw(strip).text((4, 2), caption[:75], fill=(170, 20, 20))
    return np.concatenate([tiles, np.asarray(strip)])


def _tile(picture: Image) -> Image:
    little = shrink_to_fit(picture, TILE[1])
    if little.shape[0] > TILE[0]:
        little = shrink_to_fit(picture, TILE[0])
    tile = np.full((*TILE, 3), 255, np.uint8)
    tile[: little.shape[0], : little.shape[1]] = little
    return tile
