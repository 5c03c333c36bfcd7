"""What the program for pixels saves and costs on a CPU: python -m tests.benchmarks.pixels.

A device takes that program (worker.inference.pixel_program). No device is needed to see what the
host no longer does, how many bytes are copied, and that the network itself takes no longer.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.settings import Settings
from tests.benchmarks.report import report
from worker.inference.catalog import find_model
from worker.inference.engine import plans
from worker.inference.pixel_program import write_program
from worker.inference.predictor import shape_grid
from worker.inference.session import Batch, PredictorSession
from worker.inference.testcard import testcard
from worker.inference.transforms import ExactTransforms

BATCH = 16
"""As on a device."""
ROUNDS = 15


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU time of all threads."""
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e3


def in_turns(*works: Callable[[], object]) -> list[float]:
    """The median CPU time of each; the first round is left out."""
    rounds = [[cpu_ms(work) for work in works] for _ in range(ROUNDS + 1)][1:]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def compare(name: str, folder: Path) -> dict[str, float]:
    """Figures of one model for an image."""
    settings = Settings(model=name, cpu_threads=1, log_level="ERROR")
    model = find_model(settings)
    graph = folder / f"{name}.pdmodel"
    write_program(graph, model)
    grid = shape_grid(model)
    card = grid.prepare(testcard()).image
    images = [np.roll(card, 5 * number, axis=1) for number in range(BATCH)]
    normalisation = ExactTransforms(model.transforms).normalisation

    def values() -> Batch:
        return normalisation.apply(np.stack(images))

    def pixels() -> Batch:
        return np.stack(images)

    host_before, host_after = in_turns(values, pixels)
    plan = plans(settings, model, shapes=2)[0]
    own = PredictorSession(plan, model)
    of_pixels = PredictorSession(replace(plan, graph=graph), model)
    one: NDArray[np.uint8] = card[None]
    tensor = normalisation.apply(one)
    before, after = in_turns(lambda: own.run(tensor), lambda: of_pixels.run(one))
    away = np.abs(own.run(tensor) - of_pixels.run(one))
    answers = own.forward(tensor), of_pixels.forward(one)
    return {
        "host_ms_before": host_before / BATCH,
        "host_ms_after": host_after / BATCH,
        "network_ms_before": before,
        "network_ms_after": after,
        "bytes_in_before": tensor.nbytes,
        "bytes_in_after": one.nbytes,
        "bytes_out_before": answers[0].nbytes,
        "bytes_out_after": answers[1].nbytes,
        "levels_away": float(away.max()) * 255,
    }


def main() -> None:
    """Headline: the share of the bytes that still goes to the device."""
    with tempfile.TemporaryDirectory() as folder:
        found = {name: compare(name, Path(folder)) for name in ("builtin", "u2netp")}
    for name, figures in found.items():
        print(name, {key: round(value, 3) for key, value in figures.items()})
    share = max(one["bytes_in_after"] / one["bytes_in_before"] for one in found.values())
    details = {name: {key: round(v, 3) for key, v in one.items()} for name, one in found.items()}
    report("pixels", share, target="<= 0.25", unit="bytes to the device", details=details)


if __name__ == "__main__":
    main()
