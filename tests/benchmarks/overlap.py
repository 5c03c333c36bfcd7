"""Checks that the pipeline keeps a fast device busy: python -m tests.benchmarks.overlap.

A virtual device replaces the predictor. It takes a fixed time per image and needs no core, like a
GPU. So throughput should reach either the device's limit or the cores' limit.
"""

import multiprocessing
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.options import Options, Profile
from shared.settings import Settings
from tests.benchmarks.allocator import as_deployed
from tests.benchmarks.feeding import MemoryStore, feed, items
from tests.benchmarks.photos import files, subject
from tests.benchmarks.report import report
from worker.imaging.arrays import Image
from worker.imaging.decoding import decode
from worker.imaging.false_holes import fill_false_holes
from worker.imaging.finishing import finish
from worker.imaging.kept_files import KeptFiles
from worker.imaging.matte_metrics import measure
from worker.imaging.prepared import PreparedImage
from worker.inference.shapes import ShapeGrid
from worker.pipeline.pipeline import Pipeline

DEVICE_MS = (5.0, 10.1, 14.6, 34.6, 50.0, 100.0)
"""Milliseconds per image. The second to fourth are PaddleSeg's figures for a V100 at 512 × 512:
PP-MattingV2 98.89, MODNet 68.4, PP-Matting 28.9 images/s. The first is twice as fast as a V100,
the last two are slow devices.
"""

NOISE_LIMIT = 1.1
"""A pipeline can't exceed its limit by more than this. If it does, the limit was measured
wrongly.
"""

IMAGES = 480
MEGAPIXELS = 0.26
"""512 × 512: the size of the published times."""


class VirtualDevice:
    """A device that returns the drawn subject for every photo after a fixed time, one batch at a
    time.
    """

    def __init__(self, ms: float, lock: AbstractContextManager[Any] | None = None) -> None:
        """`lock`: of other processes that share the device."""
        self._ms = ms
        self._lock = lock or threading.Lock()
        self._grid = ShapeGrid.around(512)

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        """Prepare a photo like the predictor's `fast` profile."""
        return self._grid.prepare(image)

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        """Wait for the fixed time, then draw the alphas."""
        with self._lock:
            self.work(len(prepared))
        return [matte(one) for one in prepared]

    def work(self, images: int) -> None:
        """Take the fixed time of so many images."""
        time.sleep(self._ms * images / 1e3)


def matte(prepared: PreparedImage) -> NDArray[np.float32]:
    """The true alpha: the subject within the photo, 0 in the padding."""
    kind, size = prepared.steps[-1]
    alpha = np.zeros(prepared.shape, np.float32)
    height, width = size if kind == "padding" else prepared.shape
    alpha[:height, :width] = subject((height, width))
    return alpha


def bare_loop(photos: Sequence[bytes]) -> None:
    """Run the stages around the device and nothing else, as one core would."""
    device, options, settings = VirtualDevice(0), Options(), Settings(log_level="ERROR")
    cv2.setNumThreads(1)
    for data in photos:
        decoded = decode(data, settings)
        prepared = device.prepare(decoded.image, options.profile)
        alpha = matte(prepared)
        measure(alpha, prepared, min(decoded.width, decoded.height))
        filled = fill_false_holes(prepared.without_padding(alpha), decoded.small).alpha
        kept = KeptFiles(wants_thumbnails=settings.thumbnails, wants_matte=False)
        finish(decoded, prepared, filled, options, kept=kept)


def cores_allow(photos: Sequence[bytes], cores: int) -> float:
    """Images/s of one bare loop per core, in separate processes.

    No lock connects them, and they run on the machine as it is now, including other users' load.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=spawn) as loops:
        list(loops.map(bare_loop, [photos[:4]] * cores))  # starts the processes and imports
        started = time.perf_counter()
        list(loops.map(bare_loop, [photos] * cores))
        return cores * len(photos) / (time.perf_counter() - started)


def main() -> None:
    """Headline: the worst ratio of all devices."""
    settings = Settings(batch_size=8, log_level="ERROR")
    cv2.setNumThreads(1)
    photos = files(None, count=45, megapixels=MEGAPIXELS)
    rows: dict[str, dict[str, Any]] = {}
    before = cores_allow(photos, settings.codec_threads)
    for ms in DEVICE_MS:
        pipeline = Pipeline(VirtualDevice(ms), MemoryStore(photos), settings)
        count = min(IMAGES, round(12_000 / ms))
        rate = count / feed(pipeline, settings, items(0, count, Options()))
        pipeline.close()
        after = cores_allow(photos, settings.codec_threads)
        rows[f"{ms} ms"] = row = {
            "images_per_s": round(rate, 1),
            "device_allows": round(1e3 / ms, 1),
            "cores_allow_before_and_after": [round(before, 1), round(after, 1)],
            "ratio": round(rate / min(1e3 / ms, (before + after) / 2), 3),
        }
        print(f"{ms} ms", row)
        before = after
    # A ratio well above 1 means that other users' load differed between the two measurements.
    ratios = [rate_of["ratio"] for rate_of in rows.values()]
    report(
        "overlap",
        min(ratios),
        target=">= 0.9",
        unit="throughput / bound",
        details={"devices": rows, "trustworthy": max(ratios) <= NOISE_LIMIT},
    )


if __name__ == "__main__":
    as_deployed("overlap")
    main()
