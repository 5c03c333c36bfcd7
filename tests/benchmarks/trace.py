"""Draws what the pipeline's threads do for two seconds: python -m tests.benchmarks.trace [--ms 10].

The virtual device of `overlap` replaces the predictor. Each row of the picture is a thread, each
bar a stage; the lower, darker part of a bar is the share of its time in which the thread had a
core. The first row is the device.
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shared.options import Options
from shared.settings import Settings
from tests.benchmarks.feeding import MemoryStore, feed, items
from tests.benchmarks.overlap import MEGAPIXELS
from tests.benchmarks.photos import files
from tests.benchmarks.report import report
from tests.benchmarks.virtual_device import VirtualDevice
from worker.pipeline import pipeline as pipeline_module
from worker.pipeline.image_stages import ImageStages
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.transfers import Transfers

WINDOW_S = 2.0
WARM_UP_S = 1.0
WIDTH_PX, ROW_PX, NAMES_PX = 2_000, 34, 110

DEVICE = "device"
COLOURS = {  # red, green, blue
    DEVICE: (60, 60, 60),
    "fetch": (150, 150, 150),
    "decode": (60, 120, 216),
    "predict": (232, 180, 60),
    "review": (170, 80, 190),
    "finish": (50, 160, 90),
    "store": (190, 190, 190),
}


@dataclass(frozen=True, slots=True)
class Span:
    """One stage in one thread."""

    thread: str
    stage: str
    began_s: float
    ended_s: float
    cpu_s: float


class Recorder:
    """Collects the spans of all threads."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    @contextmanager
    def span(self, stage: str, thread: str | None = None) -> Iterator[None]:
        """Record the `with` block."""
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.spans.append(
                Span(
                    thread or threading.current_thread().name,
                    stage,
                    began_s,
                    time.perf_counter(),
                    time.thread_time() - cpu_s,
                )
            )

    def wrap(self, owner: object, method: str, stage: str) -> None:
        """Record every call of a class's method, or of a module's function, from now on."""
        inner: Callable[..., Any] = getattr(owner, method)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            with self.span(stage):
                return inner(*args, **kwargs)

        setattr(owner, method, recorded)


def shares(spans: Sequence[Span], window_s: float) -> dict[str, dict[str, float]]:
    """Of each stage: the threads that were in it on average, and the cores that it had."""
    found: dict[str, dict[str, float]] = {}
    for stage in COLOURS:
        mine = [one for one in spans if one.stage == stage]
        found[stage] = {
            "threads": round(sum(one.ended_s - one.began_s for one in mine) / window_s, 2),
            "cores": round(sum(one.cpu_s for one in mine) / window_s, 2),
        }
    return found


def draw(spans: Sequence[Span], began_s: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture [H, W, 3] uint8 BGR, for OpenCV."""
    names = sorted({one.thread for one in spans}, key=lambda name: (name != DEVICE, name))
    picture = np.full((ROW_PX * (len(names) + 2), NAMES_PX + WIDTH_PX, 3), 255, np.uint8)
    scale = WIDTH_PX / WINDOW_S

    def text(words: str, x: int, y: int) -> None:
        cv2.putText(picture, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1)

    for row, name in enumerate(names):
        top = row * ROW_PX
        text(name[-14:], 2, top + 20)
        # What a stage calls is drawn over it.
        for one in sorted((one for one in spans if one.thread == name), key=lambda s: s.began_s):
            left = NAMES_PX + max(0, round((one.began_s - began_s) * scale))
            right = max(left + 1, NAMES_PX + round((one.ended_s - began_s) * scale))
            colour = COLOURS[one.stage][::-1]
            light = tuple(160 + level * 95 // 255 for level in colour)
            busy = one.cpu_s / max(1e-9, one.ended_s - one.began_s)
            bottom = top + ROW_PX - 4
            middle = bottom - round((ROW_PX - 6) * min(1.0, busy))
            cv2.rectangle(picture, (left, top + 2), (right - 1, bottom), light, -1)
            cv2.rectangle(picture, (left, middle), (right - 1, bottom), colour, -1)
    for tenth in range(round(WINDOW_S * 10) + 1):
        x = NAMES_PX + round(tenth / 10 * scale)
        cv2.line(picture, (x, 0), (x, ROW_PX * len(names)), (210, 210, 210), 1)
        text(f"{tenth / 10:.1f} s", x + 2, ROW_PX * len(names) + 14)
    for place, (stage, colour) in enumerate(COLOURS.items()):
        x, y = NAMES_PX + place * 130, ROW_PX * (len(names) + 1)
        cv2.rectangle(picture, (x, y), (x + 14, y + 14), colour[::-1], -1)
        text(stage, x + 20, y + 12)
    return picture


def main() -> None:
    """Headline: the share of the window in which the device was busy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ms", type=float, default=10.0, help="device time of an image")
    parser.add_argument("--picture", type=Path, default=Path("trace.png"))
    chosen = parser.parse_args()
    settings = Settings(batch_size=8, log_level="ERROR")
    photos = files(None, count=45, megapixels=MEGAPIXELS)
    recorder = Recorder()
    recorder.wrap(Transfers, "_get", "fetch")
    recorder.wrap(Transfers, "_put", "store")
    recorder.wrap(ImageStages, "decode", "decode")
    recorder.wrap(ImageStages, "finish", "finish")
    recorder.wrap(VirtualDevice, "predict_many", "predict")
    recorder.wrap(pipeline_module, "measure", "review")
    recorder.wrap(VirtualDevice, "work", DEVICE)
    pipeline = Pipeline(VirtualDevice(chosen.ms), MemoryStore(photos), settings)
    count = round((WARM_UP_S + WINDOW_S + 1) * 100)
    began_s = time.perf_counter()
    took_s = feed(pipeline, settings, items(0, count, Options()))
    pipeline.close()
    first_s = began_s + min(WARM_UP_S, max(0.0, took_s - WINDOW_S))
    window = [
        one for one in recorder.spans if one.ended_s > first_s and one.began_s < first_s + WINDOW_S
    ]
    on_device = [
        Span(DEVICE, *(one.stage, one.began_s, one.ended_s, one.cpu_s))
        for one in window
        if one.stage == DEVICE
    ]
    shown = [one for one in window if one.stage != DEVICE] + on_device
    cv2.imwrite(str(chosen.picture), draw(shown, first_s))
    busy = sum(one.ended_s - one.began_s for one in recorder.spans if one.stage == DEVICE)
    report(
        "trace",
        busy / took_s,
        target=None,
        unit="of the time the device was busy",
        details={
            "images_per_s": round(count / took_s, 1),
            "stages": shares(recorder.spans, took_s),
            "picture": str(chosen.picture),
        },
    )


if __name__ == "__main__":
    main()
