"""Creates the README's picture: photos above, their cut-outs below (`make picture`)."""

import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from deploy.commands.cutout import cut_out_files
from deploy.local_photos import SAMPLES, LocalPhotos
from deploy.sheets.contact_sheet import checkerboard, shrink_to_fit
from shared.options import Options
from shared.settings import Settings

NAMES = ("bottle", "mug", "toy", "handbag")
SIDE_PX = 300
TARGET = Path(__file__).parents[1] / "pictures" / "before-after.jpg"


def main() -> None:
    """Cut out the sample photos and arrange them side by side."""
    photos = [(SAMPLES / f"{name}.jpg", f"{name}.jpg") for name in NAMES]
    with tempfile.TemporaryDirectory() as folder:
        if cut_out_files(LocalPhotos(photos), Path(folder), Options(), Settings()).failed:
            raise SystemExit("a sample failed")
        columns = [_column(photo, Path(folder) / f"{photo.stem}.png") for photo, _ in photos]
    TARGET.parent.mkdir(exist_ok=True)
    height = max(column.shape[0] for column in columns)
    filled = [np.pad(one, ((0, height - one.shape[0]), (3, 3), (0, 0)), constant_values=255)
              for one in columns]  # fmt: skip
    PIL.Image.fromarray(np.concatenate(filled, 1)).save(TARGET, quality=88, optimize=True)


def _column(photo: Path, result: Path) -> NDArray[np.uint8]:
    with PIL.Image.open(photo) as picture:
        before = shrink_to_fit(np.asarray(picture.convert("RGB")), SIDE_PX)
    with PIL.Image.open(result) as picture:
        rgba = shrink_to_fit(np.asarray(picture.convert("RGBA")), SIDE_PX)
    share = rgba[..., 3:].astype(np.float32) / 255
    after = rgba[..., :3] * share + checkerboard(*rgba.shape[:2])[..., None] * (1 - share)
    return np.concatenate([before, np.rint(after).astype(np.uint8)])


if __name__ == "__main__":
    main()
