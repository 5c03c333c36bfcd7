"""The service of the reports against this one: python -m tests.benchmarks.naive [--photos FOLDER].

The naive one loads the model for each request, takes one image at a time through a plain
configuration, estimates the foreground on all pixels and writes PNG at level 6.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.options import Options, Profile
from shared.settings import Settings
from tests.benchmarks.feeding import MemoryStore, feed, items
from tests.benchmarks.photos import files
from tests.benchmarks.report import report
from worker.catalog import find_model
from worker.engine import create, plans
from worker.pipeline import Pipeline
from worker.predictor import load_predictor
from worker.transforms import ExactTransforms, Image, restore

NAIVE_IMAGES = 9
ROUNDS = 4


def naive(data: bytes, settings: Settings) -> bytes:
    """One request of the naive service."""
    model = find_model(settings)
    predictor = create(plans(settings, model, shapes=1)[-1], model)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8)
    prepared = ExactTransforms(model.transforms).prepare(image)
    handle = predictor.get_input_handle(predictor.get_input_names()[0])
    handle.reshape([1, *prepared.tensor.shape])
    handle.copy_from_cpu(prepared.tensor[None])
    predictor.run()
    output = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    alpha = restore(np.ascontiguousarray(output.reshape(output.shape[-2:])), prepared.steps)
    colours = all_pixel_foreground(image, alpha)
    cutout = np.dstack([colours[..., ::-1], np.rint(alpha * 255).astype(np.uint8)])
    return bytes(cv2.imencode(".png", cutout, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1])


def all_pixel_foreground(image: Image, alpha: NDArray[np.float32]) -> Image:
    """Blur fusion in two passes on every pixel, radii 90 and 6 (Forte 2021, arXiv:2006.14970)."""
    observed = image.astype(np.float32) / 255
    share = alpha[..., None]
    foreground = background = observed
    for radius in (90, 6):
        mass = cv2.blur(alpha, (radius, radius))[..., None]
        near = cv2.blur(foreground * share, (radius, radius)) / (mass + 1e-5)
        far = cv2.blur(background * (1 - share), (radius, radius)) / (1 - mass + 1e-5)
        foreground = near + share * (observed - share * near - (1 - share) * far)
        background = far
    pixels: Image = (np.clip(foreground, 0, 1) * 255).astype(np.uint8)
    return pixels


def main() -> None:
    """Headline: images/minute of this one by those of the naive one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--megapixels", type=float, default=1.0)
    arguments = parser.parse_args()
    settings = Settings(batch_size=8, log_level="ERROR")
    photos = files(arguments.photos, count=NAIVE_IMAGES, megapixels=arguments.megapixels)
    predictor = load_predictor(settings)
    naive(photos[0], settings)
    started = time.perf_counter()
    for data in photos:
        naive(data, settings)
    naive_rate = 60 * len(photos) / (time.perf_counter() - started)
    pipeline = Pipeline(predictor, MemoryStore(photos), settings)
    options = Options(profile=Profile.FAST)
    count = ROUNDS * len(photos)
    rate = 60 * count / feed(pipeline, settings, items(0, count, options))
    pipeline.close()
    details = {
        "images_per_min": round(rate, 1),
        "naive_images_per_min": round(naive_rate, 1),
        "photos": str(arguments.photos or f"drawn, {arguments.megapixels} MP"),
        "naive_estimator": "blur fusion on all pixels (cv2); PyMatting is not installed here",
    }
    report("naive", rate / naive_rate, target=">= 25", unit="times", details=details)


if __name__ == "__main__":
    main()
