"""Compares the shape grid with padding each batch to its largest photo: python -m
tests.benchmarks.batching [--photos FOLDER]. It measures padding waste and images/s.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from shared.options import Profile
from shared.settings import Settings
from tests.benchmarks.photos import files
from tests.benchmarks.report import report
from worker.imaging.arrays import Image
from worker.imaging.decoding import decode
from worker.imaging.prepared import PreparedImage
from worker.inference.predictor import Predictor, load_predictor

BATCH = 4
COUNT = 72
SPREAD = tuple(np.geomspace(9 / 16, 16 / 9, COUNT).tolist())
"""Aspect ratios evenly spread between the extremes, not only those that the grid was made for."""


def padded(predictor: Predictor, images: Sequence[Image]) -> list[PreparedImage]:
    """Prepare each batch by deploy.yaml, then pad it to its largest height and width."""
    result = []
    for start in range(0, len(images), BATCH):
        batch = [predictor.prepare(image, Profile.EXACT) for image in images[start : start + BATCH]]
        height = max(one.shape[0] for one in batch)
        width = max(one.shape[1] for one in batch)
        for one in batch:
            rows, columns = height - one.shape[0], width - one.shape[1]
            image = np.pad(one.image, ((0, rows), (0, columns), (0, 0)))
            content = one.content * one.shape[0] * one.shape[1] / (height * width)
            result.append(PreparedImage(image, (*one.steps, ("padding", one.shape)), content))
    return result


def waste(prepared: Sequence[PreparedImage]) -> float:
    """The share of the network's input pixels that are padding."""
    pixels = [one.shape[0] * one.shape[1] for one in prepared]
    shown = [one.content * size for one, size in zip(prepared, pixels, strict=True)]
    return 1 - sum(shown) / sum(pixels)


def content(prepared: Sequence[PreparedImage]) -> float:
    """The mean number of the network's input pixels that show the photo."""
    return sum(one.content * one.shape[0] * one.shape[1] for one in prepared) / len(prepared)


def rate(predictor: Predictor, prepared: Sequence[PreparedImage], size: int) -> float:
    """Images/s with batches of the given size."""
    started = time.perf_counter()
    for start in range(0, len(prepared), size):
        for alpha in predictor.predict_many(prepared[start : start + size]):
            if isinstance(alpha, Exception):
                raise alpha
    return len(prepared) / (time.perf_counter() - started)


def main() -> None:
    """Headline: the grid's padding waste."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path)
    arguments = parser.parse_args()
    settings = Settings(predict_batch_size=BATCH, log_level="ERROR")
    predictor = load_predictor(settings)
    cv2.setNumThreads(1)
    images = [
        decode(data, settings).image
        for data in files(arguments.photos, count=COUNT, megapixels=0.5, ratios=SPREAD)
    ]
    # A queue delivers photos in no order of their shapes.
    order = np.random.default_rng(7).permutation(len(images))
    images = [images[index] for index in order]
    grid = [predictor.prepare(image, Profile.FAST) for image in images]
    naive = padded(predictor, images)
    details = {
        "photos": str(arguments.photos or "drawn, 9:16 to 16:9"),
        "images": len(images),
        "naive_waste": round(waste(naive), 4),
        "shapes_met": len({one.shape for one in grid}),
        "naive_shapes_met": len({one.shape for one in naive}),
        "images_per_s": round(rate(predictor, grid, 8 * BATCH), 2),
        "naive_cold_images_per_s": round(rate(predictor, naive, BATCH), 2),
        "naive_warm_images_per_s": round(rate(predictor, naive, BATCH), 2),
        # Equal images/s do not mean equal work: with padding the network sees fewer pixels of each
        # photo.
        "content_kilopixels_per_image": round(content(grid) / 1e3, 1),
        "naive_content_kilopixels_per_image": round(content(naive) / 1e3, 1),
    }
    report("batching", waste(grid), target="<= 0.10", unit="padding / pixels", details=details)


if __name__ == "__main__":
    main()
