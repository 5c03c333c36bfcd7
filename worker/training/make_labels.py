"""Makes the training labels: python -m worker.training.make_labels.

--data DIR (folders of photos), --teachers DIR (alphas by teachers.py: TEACHER/FOLDER/PHOTO.png),
--out DIR, --sheets DIR. Look at the contact sheets and write the wrong labels into a file, one line
FOLDER/STEM each. `--drop FILE` excludes them.
"""

import argparse
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.arrays import Alpha
from worker.training.labels import Label, agreed, keyed, without_shadow

TEACHERS = ("isnet", "u2netp", "builtin")
"""Finest edges first: the first teacher that has an alpha for a photo gives the label, the others
confirm it.
"""

ALONE = "isnet"
"""The only teacher whose alpha counts without another that confirms it."""

KEYED = ("models_on_white", "dishes_on_white", "products_on_white")
TAUGHT = ("garments", "clothing", "objects", "appliances", "outdoor", "portraits", "cars")

MOST_DOUBT = 0.12
"""A photo is left out if the teachers dispute more than this share of its subject."""

AREA = (0.015, 0.97)
"""Allowed share of the photo that the subject fills."""

PAGE = 70
PER_ROW = 10
TILE_PX = 170


def teachers_of(root: Path, folder: str, stem: str, names: tuple[str, ...]) -> list[Alpha]:
    """Read the alphas of all teachers that have one for this photo."""
    found = [read_plane(root / name / folder / f"{stem}.png") for name in names]
    return [alpha for alpha in found if alpha is not None]


def read_plane(path: Path) -> Alpha | None:
    """Read a grey PNG as float32 [H, W] in 0..1. Returns None if it is missing or unreadable."""
    if not path.exists():
        return None
    stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return None if stored is None else (stored / np.float32(255)).astype(np.float32)


def label_of(
    folder: str, stem: str, image: NDArray[np.uint8], teachers: Path
) -> tuple[Label | None, str]:
    """Label an RGB photo. Returns the label, or None and the reason why there is none."""
    known = teachers_of(teachers, folder, stem, TEACHERS)
    if folder in KEYED:
        label = keyed(image, known[:2])
    elif len(known) > 1:
        label = agreed(known[0], known[1:])
    elif alone := teachers_of(teachers, folder, stem, (ALONE,)):
        label = Label(alone[0], np.ones_like(alone[0]))
    else:
        return None, "no teacher"
    if not AREA[0] < float((label.alpha > 0.5).mean()) < AREA[1]:
        return None, "area"
    return (label, "kept") if label.doubt() <= MOST_DOUBT else (None, "dispute")


def cutout_of(path: Path) -> tuple[NDArray[np.uint8], Label] | None:
    """Read a PNG with alpha: its colours (RGB), and its alpha without the shadow."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 3 or stored.shape[2] != 4:
        return None
    image = np.ascontiguousarray(stored[..., 2::-1]).astype(np.uint8)
    alpha = without_shadow((stored[..., 3] / np.float32(255)).astype(np.float32))
    return image, Label(alpha, np.ones_like(alpha))


def tile(image: NDArray[np.uint8], label: Label, title: str) -> NDArray[np.uint8]:
    """Draw a label (BGR): the background is green, pixels with the weight 0 are magenta."""
    alpha = label.alpha[..., None]
    shown = image * alpha + (0.25 * image + np.array([0, 130, 0])) * (1 - alpha)
    shown = np.where(label.worth[..., None] > 0, shown, 0.4 * image + np.array([150, 0, 150]))
    scale = TILE_PX / max(image.shape[:2])
    little = cv2.resize(
        shown.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
    square = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
    square[: little.shape[0], : little.shape[1]] = little[:TILE_PX, :TILE_PX, ::-1].clip(0, 255)
    cv2.putText(square, title[-22:], (2, TILE_PX - 4), 0, 0.36, (255, 255, 255), 1)
    return square


def write_sheets(tiles: list[NDArray[np.uint8]], folder: Path, name: str) -> None:
    """Write pages of tiles as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(0, len(tiles), PAGE):
        page = tiles[number : number + PAGE]
        page += [np.zeros_like(page[0])] * (-len(page) % PER_ROW)
        rows = [np.concatenate(page[at : at + PER_ROW], 1) for at in range(0, len(page), PER_ROW)]
        cv2.imwrite(str(folder / f"{name}-{number // PAGE:02d}.png"), np.concatenate(rows))


def main() -> None:
    """Label every folder. Print how many photos were kept and why the others were not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--drop", type=Path, help="lines FOLDER/STEM")
    parser.add_argument("--folders", nargs="*", default=[*TAUGHT, *KEYED, "cutouts"])
    arguments = parser.parse_args()
    dropped = set(arguments.drop.read_text().split()) if arguments.drop else set()
    for folder in arguments.folders:
        counts: Counter[str] = Counter()
        tiles: list[NDArray[np.uint8]] = []
        out: Path = arguments.out / folder
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted((arguments.data / folder).iterdir()):
            label: Label | None
            if folder == "cutouts":
                cutout = cutout_of(path)
                image, label = cutout if cutout else (None, None)
                why = "kept" if cutout else "no alpha"
            else:
                stored = cv2.imread(str(path), cv2.IMREAD_COLOR)
                image = None if stored is None else np.ascontiguousarray(stored[..., ::-1])
                if image is None:
                    continue
                label, why = label_of(folder, path.stem, image.astype(np.uint8), arguments.teachers)
            if f"{folder}/{path.stem}" in dropped:
                label, why = None, "by eye"
            counts[why] += 1
            for suffix in (".png", ".worth.png"):
                (out / f"{path.stem}{suffix}").unlink(missing_ok=True)
            if label is None or image is None:
                continue
            for suffix, plane in ((".png", label.alpha), (".worth.png", label.worth)):
                cv2.imwrite(
                    str(out / f"{path.stem}{suffix}"), (plane * 255).round().astype(np.uint8)
                )
            if arguments.sheets:
                tiles.append(tile(image.astype(np.uint8), label, path.stem))
        if tiles:
            write_sheets(tiles, arguments.sheets, folder)
        print(folder, dict(counts), flush=True)


if __name__ == "__main__":
    main()
