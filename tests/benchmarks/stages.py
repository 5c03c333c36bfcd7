"""Times of each stage and of the whole, in ms and CPU-ms per image: python -m
tests.benchmarks.stages.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import cv2

from shared.errors import MattingError
from shared.options import Foreground, Format, Options, Profile
from shared.settings import Settings
from tests.benchmarks.photos import draw, jpeg, size_of
from tests.benchmarks.report import report
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage, decode
from worker.imaging.edge_colours import estimate_foreground, transition_pixels
from worker.imaging.encoding import encode
from worker.imaging.false_holes import fill_false_holes
from worker.imaging.finishing import matte_of
from worker.imaging.kept_files import KeptFiles
from worker.imaging.matte_metrics import measure as review
from worker.imaging.render import Subject, render
from worker.inference.predictor import Predictor, load_predictor

MEGAPIXELS = (1.0, 4.0, 12.0, 24.0)
ROUNDS = 5

T = TypeVar("T")


def main() -> None:
    """Headline: the share of edge colours in the whole, for the worst of the PNG sizes."""
    settings = Settings(log_level="ERROR")
    predictor = load_predictor(settings)
    cv2.setNumThreads(1)  # like the pipeline: one thread per image
    table: dict[str, Any] = {}
    shares: list[float] = []
    for megapixels in MEGAPIXELS:
        row = measure(predictor, settings, megapixels)
        shares.append(row["edge_colours"][0] / row["whole_png"][0])
        table[f"{megapixels} MP"] = {name: [round(v, 1) for v in ms] for name, ms in row.items()}
    for size, stages in table.items():
        print(size, *(f"{name} {ms[0]}/{ms[1]}" for name, ms in stages.items()), sep="\n  ")
    details = {
        "edge_share_by_size": [round(share, 3) for share in shares],
        "ms_and_cpu_ms": table,
        "configuration": predictor.describe()["configuration"],
    }
    report("stages", max(shares), target="<= 0.15", unit="edge colours / whole", details=details)


def measure(predictor: Predictor, settings: Settings, megapixels: float) -> dict[str, list[float]]:
    """[wall ms, CPU ms] of each stage for one photo of this size."""
    data = jpeg(draw(size_of(megapixels, 3 / 4), seed=1))
    row: dict[str, list[float]] = {}
    decoded = timed(row, "decode", lambda: decode(data, settings))
    prepared = timed(row, "prepare", lambda: predictor.prepare(decoded.image, Profile.FAST))
    alpha = timed(row, "predict", lambda: predictor.predict_many([prepared])[0])
    if isinstance(alpha, MattingError):
        raise alpha
    alpha_of_photo = prepared.without_padding(alpha)
    coarse = Options(refine=False)
    plain = timed(row, "upsample", lambda: matte_of(decoded, prepared, alpha, coarse))
    assert plain.shape == decoded.image.shape[:2]
    matte = timed(row, "refine", lambda: matte_of(decoded, prepared, alpha, Options()))
    # Refining includes the enlargement of alpha. So its own cost is the difference.
    row["refine"] = [max(0.0, a - b) for a, b in zip(row["refine"], row["upsample"], strict=True)]
    timed(row, "edge_colours", lambda: _edge(decoded, matte))
    keep = Options(foreground=Foreground.KEEP)
    cutout = timed(row, "compose", lambda: render(Subject(decoded.image, matte), keep))
    side_px = min(decoded.width, decoded.height)
    timed(row, "review", lambda: review(alpha, prepared, side_px))
    timed(row, "false_holes", lambda: fill_false_holes(alpha_of_photo, decoded.small))
    kept = KeptFiles(wants_thumbnails=True, wants_matte=False)
    timed(row, "thumbnails", lambda: kept.make(decoded, matte, cutout))
    before = [sum(column) for column in zip(*row.values(), strict=True)]
    for kind in (Format.PNG, Format.WEBP, Format.JPEG, Format.AVIF, Format.ZIP):
        options = Options(format=kind, background="#ffffff" if kind is Format.JPEG else None)
        pixels = render(Subject(decoded.image, matte), options)
        timed(row, f"encode_{kind}", partial(encode, pixels, options))
        encoding = row[f"encode_{kind}"]
        row[f"whole_{kind}"] = [sum(pair) for pair in zip(before, encoding, strict=True)]
    return row


def _edge(decoded: DecodedImage, matte: Image) -> Image:
    return estimate_foreground(decoded.image, matte, transition_pixels(matte), decoded.small)


def timed(row: dict[str, list[float]], name: str, work: Callable[[], T]) -> T:
    """Store the medians of wall and CPU milliseconds. Returns the last result."""
    walls, cpus = [], []
    result = work()
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        walls.append((time.perf_counter() - wall) * 1e3)
        cpus.append((time.process_time() - cpu) * 1e3)
    row[name] = [statistics.median(walls), statistics.median(cpus)]
    return result


if __name__ == "__main__":
    main()
