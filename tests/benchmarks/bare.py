"""Pipeline speed compared with the bare predictor: python -m tests.benchmarks.bare.

A network of PP-MattingV2's size processes the same photos in two ways: as ready tensors that idle
threads submit, and through the whole worker pipeline, from JPEG to PNG.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.errors import MattingError
from shared.options import Options, Profile
from shared.settings import Settings
from tests.benchmarks.feeding import MemoryStore, feed, items
from tests.benchmarks.photos import files
from tests.benchmarks.ppmattingv2 import export
from tests.benchmarks.report import report
from worker.imaging.decoding import decode
from worker.imaging.prepared import PreparedImage
from worker.inference.predictor import Predictor, load_predictor
from worker.pipeline.pipeline import Pipeline

MEGAPIXELS = 0.26
"""512 × 512: the size of the published times."""
PHOTOS = 18
REPEATS = 4
ROUNDS = 5


def bare(predictor: Predictor, prepared: Sequence[PreparedImage], askers: int) -> float:
    """Images/s of forward passes only, submitted as the pipeline's threads do."""
    batches = [prepared[start : start + 8] for start in range(0, len(prepared), 8)]
    started = time.perf_counter()
    with ThreadPoolExecutor(askers) as drivers:
        for alphas in drivers.map(predictor.predict_many, batches):
            for alpha in alphas:
                if isinstance(alpha, MattingError):
                    raise alpha
    return len(prepared) / (time.perf_counter() - started)


def main() -> None:
    """Headline: images/s of the pipeline divided by those of the bare predictor, measured
    in turns.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = export(Path(folder))
        settings = Settings(model=str(model), batch_size=8, log_level="ERROR")
        predictor = load_predictor(settings)
    photos = files(None, count=PHOTOS, megapixels=MEGAPIXELS)
    pipeline = Pipeline(predictor, MemoryStore(photos), settings)
    prepared = [predictor.prepare(decode(p, settings).image, Profile.FAST) for p in photos]
    count = REPEATS * PHOTOS
    feed(pipeline, settings, items(0, PHOTOS, Options()))
    rates, bare_rates = [], []
    for _ in range(ROUNDS):
        bare_rates.append(bare(predictor, prepared * REPEATS, settings.batches_in_flight))
        rates.append(count / feed(pipeline, settings, items(0, count, Options())))
        print(f"bare {bare_rates[-1]:.2f} images/s, pipeline {rates[-1]:.2f}")
    pipeline.close()
    predictor.close()
    ratios = [rate / alone for rate, alone in zip(rates, bare_rates, strict=True)]
    details = {
        "images_per_s": round(statistics.median(rates), 2),
        "bare_images_per_s": round(statistics.median(bare_rates), 2),
        "configuration": predictor.describe()["configuration"],
        "streams": predictor.describe()["streams"],
        "megapixels": MEGAPIXELS,
    }
    ratio = statistics.median(ratios)
    report("bare", ratio, target=">= 0.9", unit="pipeline / bare predictor", details=details)


if __name__ == "__main__":
    main()
