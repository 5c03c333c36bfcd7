"""Compares this product with a naive service: python -m tests.benchmarks.naive [--photos FOLDER].

The naive service runs a network of PP-MattingV2's size as its published scripts do if every request
starts them anew: it loads the model, uses the plain engine without warm-up, takes one image at a
time, lets PyMatting estimate the foreground of all pixels, and writes PNG at level 6. The headline
compares it with the product as shipped. Another figure uses the same network on both sides, which
shows the gain of the architecture alone. PyMatting comes with the extra `bench`.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from pymatting import estimate_foreground_ml

from shared.options import Options
from shared.settings import Settings
from tests.benchmarks.feeding import MemoryStore, feed, items
from tests.benchmarks.photos import files
from tests.benchmarks.ppmattingv2 import export
from tests.benchmarks.report import report
from worker.imaging.prepared import restore
from worker.inference.catalog import Model, find_model
from worker.inference.engine import plans
from worker.inference.predictor import load_predictor
from worker.inference.session import PredictorSession
from worker.inference.transforms import ExactTransforms
from worker.pipeline.pipeline import Pipeline

NAIVE_IMAGES = 9
REPEATS = 8


def naive(data: bytes, settings: Settings, model: Model) -> bytes:
    """One request of the naive service."""
    session = PredictorSession(plans(settings, model, shapes=1)[-1], model)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8)
    transforms = ExactTransforms(model.transforms)
    prepared = transforms.prepare(image)
    batch = transforms.normalisation.apply(prepared.image[None])
    alpha = restore(session.run(batch)[0], prepared.steps)
    colours = estimate_foreground_ml(image / 255.0, alpha.astype(np.float64))
    colours = np.clip(np.rint(colours[..., ::-1] * 255), 0, 255)
    cutout = np.dstack([colours, np.rint(alpha * 255)]).astype(np.uint8)
    return bytes(cv2.imencode(".png", cutout, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1])


def naive_rate(photos: list[bytes], settings: Settings) -> float:
    """Images per minute of the naive service, from the median request, so that one slow request
    does not decide.
    """
    model = find_model(settings)
    # PyMatting compiles itself at its first call. That time does not count.
    naive(photos[0], settings.model_copy(update={"cpu_threads": 1}), model)
    spent = []
    for data in photos[:NAIVE_IMAGES]:
        started = time.perf_counter()
        # One image may use all threads.
        naive(data, settings.model_copy(update={"predict_streams": 1}), model)
        spent.append(time.perf_counter() - started)
    return 60 / statistics.median(spent)


def rate(photos: list[bytes], settings: Settings) -> float:
    """Images per minute of the worker's pipeline."""
    predictor = load_predictor(settings)
    pipeline = Pipeline(predictor, MemoryStore(photos), settings)
    feed(pipeline, settings, items(0, len(photos), Options()))
    count = REPEATS * len(photos)
    elapsed_s = feed(pipeline, settings, items(0, count, Options()))
    pipeline.close()
    predictor.close()
    return 60 * count / elapsed_s


def main() -> None:
    """Headline: images per minute of this product divided by those of the naive service."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--megapixels", type=float, default=1.0)
    arguments = parser.parse_args()
    photos = files(arguments.photos, count=NAIVE_IMAGES, megapixels=arguments.megapixels)
    usual = Settings(batch_size=8, log_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        same = usual.model_copy(update={"model": str(export(Path(folder)))})
        reports = naive_rate(photos, same)
        print(f"naive: {reports:.1f} images/min")
        same_network = rate(photos, same)
        print(f"the same network here: {same_network:.1f} images/min")
    naive_builtin = naive_rate(photos, usual)
    ours = rate(photos, usual)
    details = {
        "images_per_min": round(ours, 1),
        "naive_images_per_min": round(reports, 1),
        "same_network_images_per_min": round(same_network, 1),
        "same_network_times": round(same_network / reports, 1),
        "naive_images_per_min_builtin": round(naive_builtin, 1),
        "builtin_times": round(ours / naive_builtin, 1),
        "photos": str(arguments.photos or f"drawn, {arguments.megapixels} MP"),
    }
    report("naive", ours / reports, target=">= 25", unit="times", details=details)


if __name__ == "__main__":
    main()
