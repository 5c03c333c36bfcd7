"""Measures a model on a folder of photos and their true alphas, as the worker would run it."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deploy.local_photos import EXTENSIONS
from shared.errors import MattingError, PairsNotFoundError
from shared.options import Options, Profile
from shared.settings import Settings
from worker.imaging.decoding import decode
from worker.imaging.finishing import matte_of
from worker.inference.predictor import Predictor, load_predictor
from worker.training.metrics import Alpha, Scores, score

ALPHA_FOLDERS = ("alphas", "alpha", "masks", "mask", "gt")
ALPHA_ENDINGS = ("-alpha", "_alpha", "-mask", "_mask")


@dataclass(frozen=True)
class Verified:
    """One photo's scores."""

    name: str
    scores: Scores
    predict_ms: float


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Photos and alphas: `images/NAME.jpg` with `alphas/NAME.png` (or masks, gt), or
    `NAME.jpg` with `NAME-alpha.png` side by side. Raises PairsNotFoundError.
    """
    images = folder / "images" if (folder / "images").is_dir() else folder
    beside = next((folder / one for one in ALPHA_FOLDERS if (folder / one).is_dir()), None)
    pairs: list[tuple[Path, Path]] = []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in EXTENSIONS or path.stem.endswith(ALPHA_ENDINGS):
            continue
        if beside is not None:
            alpha = beside / f"{path.stem}.png"
        else:
            alphas = [path.with_name(f"{path.stem}{end}.png") for end in ALPHA_ENDINGS]
            alpha = next((one for one in alphas if one.is_file()), alphas[0])
        if alpha.is_file():
            pairs.append((path, alpha))
    if not pairs:
        raise PairsNotFoundError(f"{folder} holds no photo with an alpha")
    return pairs


def verify(
    pairs: list[tuple[Path, Path]], settings: Settings, options: Options
) -> Iterator[Verified]:
    """The scores of each pair. Raises SetupError when the model can't start, ImageError for a file
    that can't be read.
    """
    cv2.setNumThreads(1)
    predictor = load_predictor(settings)
    try:
        for photo, truth in pairs:
            yield _verify(predictor, settings, options, photo, truth)
    finally:
        predictor.close()


def summary(results: list[Verified]) -> dict[str, Any]:
    """Means over all pairs, and the bare predictor's images a second."""
    rows = [asdict(one.scores) for one in results]
    means = {name: round(statistics.fmean(row[name] for row in rows), 4) for name in rows[0]}
    rate = 1e3 / statistics.median(one.predict_ms for one in results)
    return {"images": len(rows), **means, "images_per_s": round(rate, 1)}


def _verify(
    predictor: Predictor, settings: Settings, options: Options, photo: Path, truth: Path
) -> Verified:
    decoded = decode(photo.read_bytes(), settings)
    prepared = predictor.prepare(decoded.image, Profile(options.profile))
    started = time.perf_counter()
    (alpha,) = predictor.predict_many([prepared])
    spent_ms = (time.perf_counter() - started) * 1e3
    if isinstance(alpha, MattingError):
        raise alpha
    matte = matte_of(decoded, prepared, alpha, options)
    return Verified(photo.name, score(_unit(matte), truth_of(truth, matte.shape)), spent_ms)


def truth_of(path: Path, shape: tuple[int, ...]) -> Alpha:
    """The alpha channel [H, W] in 0..1 where there is one, else the grey; at the photo's size.
    Raises PairsNotFoundError.
    """
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise PairsNotFoundError(f"{path} can't be read as an alpha")
    plane = read[..., 3] if read.ndim == 3 and read.shape[2] == 4 else read
    if plane.ndim == 3:
        plane = cv2.cvtColor(plane, cv2.COLOR_BGR2GRAY)
    if plane.shape != shape:
        plane = cv2.resize(plane, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return _unit(np.asarray(plane, np.uint8))


def _unit(plane: np.ndarray[Any, np.dtype[np.uint8]]) -> Alpha:
    return (plane / np.float32(255)).astype(np.float32)
