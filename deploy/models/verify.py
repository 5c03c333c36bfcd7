"""Evaluation of a model on photos with ground-truth alphas, with the worker's own pipeline."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shared.errors import MattingError, PairsNotFoundError
from shared.options import Options, Profile
from shared.photo_kinds import PHOTO_ENDINGS
from shared.settings import Settings
from worker.imaging.arrays import Alpha
from worker.imaging.decoding import decode
from worker.imaging.finishing import matte_of
from worker.inference.predictor import Predictor, load_predictor
from worker.training.metrics import Scores, score

ALPHA_FOLDERS = ("alphas", "alpha", "masks", "mask", "gt")
ALPHA_ENDINGS = ("-alpha", "_alpha", "-mask", "_mask")


@dataclass(frozen=True)
class PairResult:
    """Scores and prediction time of one photo."""

    name: str
    scores: Scores
    predict_ms: float


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Find photos with their alphas. Raises PairsNotFoundError.

    Either `images/NAME.jpg` with `alphas/NAME.png` (see ALPHA_FOLDERS), or `NAME.jpg` with
    `NAME-alpha.png` in one folder (see ALPHA_ENDINGS).
    """
    images = folder / "images" if (folder / "images").is_dir() else folder
    beside = next((folder / one for one in ALPHA_FOLDERS if (folder / one).is_dir()), None)
    pairs: list[tuple[Path, Path]] = []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in PHOTO_ENDINGS or path.stem.endswith(ALPHA_ENDINGS):
            continue
        if beside is not None:
            alpha = beside / f"{path.stem}.png"
        else:
            alphas = [path.with_name(f"{path.stem}{end}.png") for end in ALPHA_ENDINGS]
            alpha = next((one for one in alphas if one.is_file()), alphas[0])
        if alpha.is_file():
            pairs.append((path, alpha))
    if not pairs:
        raise PairsNotFoundError(f"{folder} contains no photo with an alpha")
    return pairs


def verify(
    pairs: list[tuple[Path, Path]], settings: Settings, options: Options
) -> Iterator[PairResult]:
    """Predict each photo and yield its scores.

    Raises SetupError when the model can't start, ImageError for an unreadable file.
    """
    cv2.setNumThreads(1)
    predictor = load_predictor(settings)
    try:
        for photo, truth in pairs:
            yield _measure_pair(predictor, settings, options, photo, truth)
    finally:
        predictor.close()


def summary(results: list[PairResult]) -> dict[str, Any]:
    """Mean scores over all pairs, and images/s of prediction alone."""
    rows = [asdict(one.scores) for one in results]
    means = {name: round(statistics.fmean(row[name] for row in rows), 4) for name in rows[0]}
    rate = 1e3 / statistics.median(one.predict_ms for one in results)
    return {"images": len(rows), **means, "images_per_s": round(rate, 1)}


def _measure_pair(
    predictor: Predictor, settings: Settings, options: Options, photo: Path, truth: Path
) -> PairResult:
    decoded = decode(photo.read_bytes(), settings)
    prepared = predictor.prepare(decoded.image, Profile(options.profile))
    started = time.perf_counter()
    (alpha,) = predictor.predict_many([prepared])
    spent_ms = (time.perf_counter() - started) * 1e3
    if isinstance(alpha, MattingError):
        raise alpha
    matte = matte_of(decoded, prepared, alpha, options)
    return PairResult(
        photo.name, score(_to_unit_range(matte), read_true_alpha(truth, matte.shape)), spent_ms
    )


def read_true_alpha(path: Path, shape: tuple[int, ...]) -> Alpha:
    """Read a ground-truth alpha as [H, W] float32 in 0..1, resized to the photo's `shape`.

    It is the file's alpha channel, or its grey values if it has none. Raises PairsNotFoundError.
    """
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise PairsNotFoundError(f"{path} can't be read as an alpha")
    plane = read[..., 3] if read.ndim == 3 and read.shape[2] == 4 else read
    if plane.ndim == 3:
        plane = cv2.cvtColor(plane, cv2.COLOR_BGR2GRAY)
    if plane.shape != shape:
        plane = cv2.resize(plane, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return _to_unit_range(np.asarray(plane, np.uint8))


def _to_unit_range(plane: np.ndarray[Any, np.dtype[np.uint8]]) -> Alpha:
    return (plane / np.float32(255)).astype(np.float32)
