"""Measures a model as the worker runs it: python -m worker.training.evaluate --data DIR.

It uses the held-out photos of the fashion set (hard masks) and composites with an exact alpha. For
composites it also scores the same alpha thresholded at 0.5.
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
from worker.imaging.arrays import Alpha, Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.finishing import matte_of
from worker.inference.predictor import Predictor, load_predictor
from worker.training.backgrounds import background
from worker.training.compose import Subjects, compose, photograph
from worker.training.metrics import Scores, score
from worker.training.pasting import paste
from worker.training.render import render_object
from worker.training.sources import Sources, load_sources

COMPOSITES = 150
LARGE_COMPOSITES = 60
FOUND = 0.8
"""Minimum IoU. Below it the network found another subject, so the edges say nothing."""


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = load_predictor(Settings(model=arguments.model, log_level="ERROR"))
    sources = load_sources(arguments.data, None, held_out=True)
    sources.figures = sources.held_out  # composites of held-out photos
    held_out = [
        score(alpha_of(predictor, photo.image), (photo.mask / np.float32(255)).astype(np.float32))
        for photo in sources.held_out_kinds["fashion"]
    ]
    report = {
        "model": predictor.describe()["fingerprint"],
        "held_out_figures": means(held_out),
        "product_composites": composites(predictor, sources, "products"),
        "shape_composites": composites(predictor, sources, "shapes"),
        "large_found_composites": large_composites(predictor, sources),
        "images_per_s": round(speed(predictor), 1),
    }
    print(json.dumps(report, indent=2))


def composites(
    predictor: Predictor, sources: Sources, subjects: Subjects
) -> dict[str, dict[str, float]]:
    """Score composites: the alpha as it is, and thresholded at 0.5."""
    rng = np.random.default_rng(2_026)
    soft, hard = [], []
    for _ in range(COMPOSITES):
        sample = compose(rng, sources, 512, 448, only_pasted=subjects)
        alpha = alpha_of(predictor, sample.image)
        soft.append(score(alpha, sample.alpha))
        hard.append(score((alpha > 0.5).astype(np.float32), sample.alpha))
    median = round(float(np.median([one.mae for one in soft])), 4)
    return {"alpha": means(soft) | {"median_mae": median}, "cut_hard": means(hard)}


def large_composites(predictor: Predictor, sources: Sources) -> dict[str, dict[str, float]]:
    """Measure what refinement at full size gains.

    Drawn objects of 900 pixels are pasted on pictures of 1500. Only those that the network found
    (IoU above FOUND) count. Scores: alpha enlarged only, refined, and refined then thresholded.
    """
    rng = np.random.default_rng(11)
    table: dict[str, list[Scores]] = {"enlarged": [], "refined": [], "refined_cut_hard": []}
    for number in range(LARGE_COMPOSITES):
        height, width = (1_500, 1_200) if number % 2 else (1_200, 1_500)
        ground = background(rng, height, width, sources.scenes)
        drawn = render_object(rng, 900, sources.scenes)
        empty = np.zeros((height, width), np.float32)
        colour, truth = paste(rng, ground, empty, *drawn)
        image = photograph(rng, colour)
        coarse = alpha_of(predictor, image, Options(refine=False))
        if score(coarse, truth).iou < FOUND:
            continue
        fine = alpha_of(predictor, image)
        table["enlarged"].append(score(coarse, truth))
        table["refined"].append(score(fine, truth))
        table["refined_cut_hard"].append(score((fine > 0.5).astype(np.float32), truth))
    return {name: means(scores) for name, scores in table.items() if scores}


def alpha_of(predictor: Predictor, image: Image, options: Options | None = None) -> Alpha:
    """Compute the alpha [H, W] in 0..1 that a customer would get. Raises PredictorError."""
    prepared = predictor.prepare(image, Profile.FAST)
    (alpha,) = predictor.predict_many([prepared])
    if isinstance(alpha, MattingError):
        raise alpha
    decoded = DecodedImage(image, image.shape[1], image.shape[0])
    whole = matte_of(decoded, prepared, alpha, options or Options())
    return (whole / np.float32(255)).astype(np.float32)


def means(scores: list[Scores]) -> dict[str, float]:
    """The mean of each measure."""
    rows = [asdict(one) for one in scores]
    return {"images": len(rows)} | {
        name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]
    }


def speed(predictor: Predictor) -> float:
    """Images per second of the bare predictor at its square shape, one by one: median of 20."""
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
