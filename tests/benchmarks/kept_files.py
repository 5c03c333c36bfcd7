"""CPU time and bytes of the files beside a result: `python -m tests.benchmarks.kept_files PHOTOS…`.

Each photo is taken as it is, and at 24 megapixels. The matte is the built-in network's.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from shared.options import Options, Profile
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.encoding import encode
from worker.imaging.finishing import matte_of
from worker.imaging.kept_files import KeptFiles, thumbnail
from worker.imaging.render import Subject, render
from worker.inference.predictor import Predictor, load_predictor

LARGE_PX = 24_000_000
REPEATS = 10


def cpu_ms(work: Callable[[], object]) -> float:
    """Mean CPU time of a call."""
    work()
    began = time.process_time()
    for _ in range(REPEATS):
        work()
    return (time.process_time() - began) * 1e3 / REPEATS


def main(paths: list[str]) -> None:
    """Print a row for each size: medians over the photos."""
    cv2.setNumThreads(1)
    settings = Settings(cpu_threads=1, predict_streams=1)
    options = Options()
    rows: dict[str, list[tuple[float, ...]]] = {"as it is": [], "24 MP": []}
    predictor = load_predictor(settings)
    with closing(predictor):
        for path in paths:
            bgr = cv2.imread(path)
            assert bgr is not None, path
            photo: Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8)
            scale = (LARGE_PX / (photo.shape[0] * photo.shape[1])) ** 0.5
            large = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            for name, image in (("as it is", photo), ("24 MP", large.astype(np.uint8))):
                rows[name].append(_measured(image, predictor, options))
    titles = "photo ms", "result ms", "both bytes", "matte ms", "matte bytes", "result bytes"
    print("size".ljust(10), *(title.rjust(12) for title in titles))
    for name, found in rows.items():
        medians = [statistics.median(column) for column in zip(*found, strict=True)]
        print(name.ljust(10), *(f"{value:12.1f}" for value in medians))


def _measured(image: Image, predictor: Predictor, options: Options) -> tuple[float, ...]:
    height, width = image.shape[:2]
    decoded = DecodedImage(image, width, height)
    prepared = predictor.prepare(image, Profile.FAST)
    [alpha] = predictor.predict_many([prepared])
    assert isinstance(alpha, np.ndarray)
    matte = matte_of(decoded, prepared, alpha, options)
    pixels = render(Subject(image, matte), options)
    kept = KeptFiles(wants_thumbnails=True, wants_matte=True)
    kept.make(decoded, matte, pixels)
    assert kept.thumbnails is not None
    assert kept.matte is not None
    only_matte = KeptFiles(wants_thumbnails=False, wants_matte=True)
    return (
        cpu_ms(lambda: thumbnail(image)),
        cpu_ms(lambda: thumbnail(pixels)),
        len(kept.thumbnails),
        cpu_ms(lambda: only_matte.make(decoded, matte, pixels)),
        len(kept.matte),
        len(encode(pixels, options)),
    )


if __name__ == "__main__":
    main(sys.argv[1:] or sorted(map(str, Path("deploy/samples").glob("*.jpg"))))
