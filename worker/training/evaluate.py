"""Measure a model as the worker runs it: python -m worker.training.evaluate --data DIR.

On the held-out photos of the fashion set (hard masks), and on composites whose alpha is known
exactly, beside the same alpha cut hard at 0.5.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from shared.errors import MattingError
from shared.options import Options, Profile
from shared.settings import Settings
from worker.codec import Decoded
from worker.finishing import matte_of
from worker.predictor import Predictor, load_predictor
from worker.training.backgrounds import Image
from worker.training.compose import compose
from worker.training.metrics import Alpha, Scores, score
from worker.training.sources import load_sources

COMPOSITES = 150


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = load_predictor(Settings(model=arguments.model, log_level="ERROR"))
    sources = load_sources(arguments.data, None, held_out=True)
    sources.figures = sources.held_out  # composites of what was never trained on
    held_out = [
        score(alpha_of(predictor, photo.image), (photo.mask / np.float32(255)).astype(np.float32))
        for photo in sources.held_out
    ]
    rng = np.random.default_rng(2_026)
    soft, hard = [], []
    for _ in range(COMPOSITES):
        sample = compose(rng, sources, 512, 448, only_pasted=True)
        alpha = alpha_of(predictor, sample.image)
        soft.append(score(alpha, sample.alpha))
        hard.append(score((alpha > 0.5).astype(np.float32), sample.alpha))
    report = {
        "model": predictor.describe()["fingerprint"],
        "held_out_figures": means(held_out),
        "composites": means(soft),
        "composites_hard_mask": means(hard),
        "images_per_s": round(speed(predictor), 1),
    }
    print(json.dumps(report, indent=2))


def alpha_of(predictor: Predictor, image: Image) -> Alpha:
    """The alpha [H, W] in 0..1 that a customer would get. Raises PredictorError."""
    prepared = predictor.prepare(image, Profile.FAST)
    (alpha,) = predictor.predict_many([prepared])
    if isinstance(alpha, MattingError):
        raise alpha
    decoded = Decoded(image, image.shape[1], image.shape[0])
    whole = matte_of(decoded, prepared, alpha, Options())
    return (whole / np.float32(255)).astype(np.float32)


def means(scores: list[Scores]) -> dict[str, float]:
    """The mean of each measure."""
    rows = [asdict(one) for one in scores]
    return {"images": len(rows)} | {
        name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]
    }


def speed(predictor: Predictor) -> float:
    """Images a second of the bare predictor at its square shape, one at a time, median of 20."""
    photo = np.full((900, 900, 3), 127, np.uint8)
    prepared = predictor.prepare(photo, Profile.FAST)
    spent = []
    for _ in range(20):
        started = time.perf_counter()
        predictor.predict_many([prepared])
        spent.append(time.perf_counter() - started)
    return 1 / float(np.median(spent))


if __name__ == "__main__":
    main()
