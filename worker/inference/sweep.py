"""Benchmarks a model on this machine: streams × batch size × shape, in images/s and latency."""

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np

from shared.errors import OutOfMemoryError
from shared.settings import Settings
from worker.imaging.arrays import Size
from worker.inference.building import build_engines
from worker.inference.catalog import Model
from worker.inference.engine import EnginePlan, plans
from worker.inference.postprocess import Alphas
from worker.inference.session import Batch, PredictorSession, SessionPool

CPU_BATCHES = (1, 2, 4, 8)
DEVICE_BATCHES = (1, 2, 4, 8, 16, 32, 64)
DEVICE_STREAMS = (1, 2)

MEASURE_S = 1.5
MIN_BATCHES = 8
"""Each combination runs for at least `MEASURE_S` and at least this many batches."""

NEAR = 0.05
"""Combinations within this share of the best throughput count as equal; the lowest latency wins."""


@dataclass(frozen=True)
class SweepResult:
    """The measurement of one combination."""

    streams: int
    threads: int
    """CPU threads of all streams together; meaningless on other devices."""
    batch: int
    shape: Size
    images_per_s: float
    """0 if the device does not have enough memory."""
    median_ms: float
    p99_ms: float
    """99th percentile latency of one batch, from its start in a stream to its alphas."""


@dataclass(frozen=True)
class SweepChoice:
    """The best number of streams and batch size over all shapes."""

    streams: int
    batch: int
    images_per_s: float
    p99_ms: float


def combinations(settings: Settings) -> list[tuple[int, int]]:
    """The streams and batch sizes worth trying on this device."""
    if settings.device != "cpu":
        return list(itertools.product(DEVICE_STREAMS, DEVICE_BATCHES))
    powers = [1 << power for power in range(settings.cpu_threads.bit_length())]
    counts = sorted({count for count in powers if count <= settings.cpu_threads})
    return list(itertools.product(counts, CPU_BATCHES))


def sweep(
    settings: Settings,
    model: Model,
    like: EnginePlan,
    shapes: Sequence[Size],
    *,
    measure_s: float = MEASURE_S,
    on_cell: Callable[[SweepResult], None] = lambda _cell: None,
) -> list[SweepResult]:
    """Measure every combination at every shape, with the engine and the program of this plan.

    Raises PredictorError, ModelLoadError, EngineUnavailableError.
    """
    cells = []
    for streams, group in itertools.groupby(combinations(settings), key=lambda pair: pair[0]):
        batches = [batch for _, batch in group]
        tried = settings.model_copy(
            update={"predict_streams": streams, "predict_batch_size": max(batches)}
        )
        warm = list(itertools.product(batches, shapes))
        if like.kind == "tensorrt":
            build_engines(tried, model, warm, like.graph)
        known = plans(tried, model, shapes=len(shapes) + 1, warm=warm)
        plan = next(plan for plan in known if (plan.kind, plan.graph) == (like.kind, like.graph))
        networks = SessionPool(partial(PredictorSession, plan, model), streams)
        try:
            for cell in _cells(networks, tried, plan, batches, shapes, measure_s):
                cells.append(cell)
                on_cell(cell)
        finally:
            networks.close()
    return cells


def choose(cells: Sequence[SweepResult]) -> SweepChoice:
    """The combination with the highest throughput over all shapes (harmonic mean). Among those
    within `NEAR` of it, the one with the lowest p99 latency. A combination that failed at any shape
    is excluded.

    Raises OutOfMemoryError if all failed.
    """
    choices = []
    for (streams, batch), group in itertools.groupby(
        sorted(cells, key=lambda cell: (cell.streams, cell.batch)),
        key=lambda cell: (cell.streams, cell.batch),
    ):
        measured = list(group)
        if all(cell.images_per_s > 0 for cell in measured):
            rate = statistics.harmonic_mean([cell.images_per_s for cell in measured])
            choices.append(SweepChoice(streams, batch, rate, max(cell.p99_ms for cell in measured)))
    if not choices:
        raise OutOfMemoryError("The device has too little memory for a single image")
    best = max(choice.images_per_s for choice in choices)
    return min(
        (choice for choice in choices if choice.images_per_s >= (1 - NEAR) * best),
        key=lambda choice: choice.p99_ms,
    )


def _cells(
    networks: SessionPool,
    settings: Settings,
    plan: EnginePlan,
    batches: Sequence[int],
    shapes: Sequence[Size],
    measure_s: float,
) -> Iterator[SweepResult]:
    streams = settings.predict_streams or 1
    for batch, shape in itertools.product(batches, shapes):
        try:
            rate, median_ms, p99_ms = _measure(
                networks, streams, _photos(plan, batch, shape), measure_s
            )
        except OutOfMemoryError:
            rate = median_ms = p99_ms = 0.0
        yield SweepResult(streams, settings.cpu_threads, batch, shape, rate, median_ms, p99_ms)


def _photos(plan: EnginePlan, count: int, shape: Size) -> Batch:
    noise = np.random.default_rng(0)
    if plan.takes_pixels:
        return noise.integers(0, 256, (count, *shape, 3), np.uint8)
    return noise.standard_normal((count, 3, *shape)).astype(np.float32)


def _measure(
    networks: SessionPool, streams: int, photos: Batch, measure_s: float
) -> tuple[float, float, float]:
    """Images/s, and the median and p99 latency of a batch in ms, with every stream busy."""
    for _ in range(2):  # warm up each stream at this shape
        for future in [networks.submit(photos) for _ in range(2 * streams)]:
            future.result()
    spent_ms: list[float] = []
    running: deque[tuple[float, Future[Alphas]]] = deque()
    started = time.perf_counter()
    while len(spent_ms) < MIN_BATCHES or time.perf_counter() - started < measure_s:
        while len(running) < streams:
            running.append((time.perf_counter(), networks.submit(photos)))
        submitted, future = running.popleft()
        future.result()
        spent_ms.append((time.perf_counter() - submitted) * 1e3)
    elapsed_s = time.perf_counter() - started
    for _, future in running:
        future.result()
    p99_ms = float(np.percentile(spent_ms, 99))
    return len(spent_ms) * len(photos) / elapsed_s, statistics.median(spent_ms), p99_ms
