"""Checks that a worker's memory does not grow: python -m tests.benchmarks.memory [--images N].

Photos of mixed sizes and formats go through one predictor and pipeline. It prints the resident
memory after a quarter and after all of them, and the peak.
"""

import argparse
import multiprocessing
import tempfile
from pathlib import Path

from shared.options import Format, Options
from shared.settings import Settings
from tests.benchmarks.allocator import as_deployed
from tests.benchmarks.feeding import MemoryStore, feed, items
from tests.benchmarks.photos import RATIOS, draw, jpeg, size_of
from tests.benchmarks.report import report
from worker.inference.predictor import load_predictor
from worker.pipeline.pipeline import Pipeline

MEGAPIXELS = (0.1, 0.25, 0.25, 0.5, 0.5, 1.0, 0.25, 2.0, 0.5, 12.0)
PHOTOS = 40


def write_photos(folder: Path) -> None:
    """Draw the photos in another process, because drawing needs more memory than the worker."""
    for index in range(PHOTOS):
        megapixels = MEGAPIXELS[index % len(MEGAPIXELS)]
        if megapixels > 4 and index > len(MEGAPIXELS):
            megapixels = 4.0  # one of forty is huge
        size = size_of(megapixels, RATIOS[index % len(RATIOS)])
        (folder / f"{index:03}.jpg").write_bytes(jpeg(draw(size, index)))


def resident_mb(field: str = "VmRSS") -> float:
    """Resident memory of this process or its peak (VmHWM), in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(field)


def main() -> None:
    """Headline: peak resident memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        drawing = multiprocessing.get_context("spawn").Process(
            target=write_photos, args=(Path(folder),)
        )
        drawing.start()
        drawing.join()
        photos = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    settings = Settings(batch_size=8, log_level="ERROR")
    predictor = load_predictor(settings)
    pipeline = Pipeline(predictor, MemoryStore(photos), settings)
    warm = resident_mb()
    marks, elapsed_s = {}, 0.0
    quarter = count // 4
    for first in range(0, count, quarter):
        options = Options(format=Format.JPEG, background="#ffffff")
        if first % (2 * quarter) == 0:
            options = Options()
        elapsed_s += feed(pipeline, settings, items(first, quarter, options))
        marks[first + quarter] = round(resident_mb())
        print(marks)
    pipeline.close()
    details = {
        "resident_mb_warm": round(warm),
        "resident_mb_after": marks,
        "growth_mb": marks[4 * quarter] - marks[quarter],
        "images_per_s": round(count / elapsed_s, 1),
    }
    report("memory", resident_mb("VmHWM"), target="<= 900", unit="MB peak", details=details)


if __name__ == "__main__":
    as_deployed("memory")
    main()
