"""Label photos that have no masks: where an early model and GrabCut agree, the mask is kept.

python -m worker.training.label_garments --photos DIR --model FOLDER --out DIR
Look at the contact sheets that it writes and delete the masks that are wrong.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.settings import Settings
from worker.inference.predictor import Predictor, load_predictor
from worker.training.evaluate import alpha_of
from worker.training.sources import read_rgb

AGREEMENT = 0.88
"""Least IoU between the model's mask and GrabCut's for a label to be kept."""

EDGE = np.ones((13, 13), np.uint8)
"""Within six pixels of the model's outline GrabCut's mask holds."""

NO_BOX = (0, 0, 0, 0)
"""GrabCut is seeded by a mask here and does not look at the box."""

AREA = (0.04, 0.9)
"""A garment fills between these shares of its photo."""


def propose(predictor: Predictor, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The model's alpha [H, W] of a photo, the mean of the plain and the mirrored one."""
    mirrored = alpha_of(predictor, np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
    return ((alpha_of(predictor, image) + mirrored) / 2).astype(np.float32)


def refine(image: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    """GrabCut (Rother et al. 2004) seeded by the alpha; None unless both agree on one object."""
    cv2.setNumThreads(1)
    seeds: NDArray[Any] = np.full(alpha.shape, cv2.GC_PR_BGD, np.uint8)
    seeds[alpha > 0.5] = cv2.GC_PR_FGD
    kernel = np.ones((7, 7), np.uint8)
    seeds[cv2.erode((alpha > 0.9).astype(np.uint8), kernel) > 0] = cv2.GC_FGD
    seeds[cv2.erode((alpha < 0.1).astype(np.uint8), kernel) > 0] = cv2.GC_BGD
    if not (seeds == cv2.GC_FGD).any() or not (seeds == cv2.GC_BGD).any():
        return None
    colours: tuple[Any, Any] = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(
        np.ascontiguousarray(image[..., ::-1]), seeds, NO_BOX, *colours, 3, cv2.GC_INIT_WITH_MASK
    )
    mask: NDArray[Any] = np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    keep = 1 + np.nonzero(areas >= 0.1 * areas.max())[0]  # a pair of shoes is two parts
    mask = np.isin(parts, keep).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    model = alpha > 0.5
    agreement = (model & (mask > 0)).sum() / max(1, (model | (mask > 0)).sum())
    if agreement < AGREEMENT or not AREA[0] < mask.mean() < AREA[1]:
        return None
    # GrabCut knows colours, not things: it decides where the edge runs, not what is meant.
    plain = model.astype(np.uint8)
    edge = cv2.dilate(plain, EDGE) != cv2.erode(plain, EDGE)
    mask = np.where(edge, mask, plain).astype(np.uint8)
    return (mask * 255).astype(np.uint8)


def main() -> None:
    """Label a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", default="builtin", help="a folder that export.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    predictor = load_predictor(Settings(model=arguments.model, log_level="ERROR"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    paths = sorted(arguments.photos.glob("*.jpg"))
    images = [read_rgb(path) for path in paths]
    alphas = [propose(predictor, image) for image in images]
    with ThreadPoolExecutor(2) as pool:  # GrabCut releases the GIL
        masks = list(pool.map(refine, images, alphas))
    tiles: list[NDArray[np.uint8]] = []
    kept = 0
    for path, image, mask in zip(paths, images, masks, strict=True):
        if mask is None:
            continue
        kept += 1
        cv2.imwrite(str(arguments.out / f"{path.stem}.png"), mask)
        shown = np.where(mask[..., None] > 0, image, image // 4 + np.array([0, 120, 0], np.uint8))
        tile = np.zeros((200, 150, 3), np.uint8)
        scale = min(200 / shown.shape[0], 150 / shown.shape[1])
        little = cv2.resize(shown.astype(np.uint8), None, fx=scale, fy=scale)
        tile[: little.shape[0], : little.shape[1]] = little
        cv2.putText(tile, f"{kept} {path.stem[-8:]}", (2, 196), 0, 0.4, (255, 255, 0), 1)
        tiles.append(tile)
    for number in range(0, len(tiles), 60):
        page = tiles[number : number + 60]
        page += [np.zeros_like(page[0])] * (-len(page) % 10)
        rows = [np.concatenate(page[row : row + 10], 1) for row in range(0, len(page), 10)]
        sheet = np.concatenate(rows)[..., ::-1]
        cv2.imwrite(str(arguments.out / f"sheet-{number // 60:02d}.jpg"), sheet)
    print(f"{kept} of {len(paths)} labelled")


if __name__ == "__main__":
    main()
