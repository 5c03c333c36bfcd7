"""The warm predictor: prepared photos in, alphas out; loaded and checked before any work."""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import (
    MattingError,
    OutOfMemoryError,
    PredictorError,
    SetupError,
    WarmupError,
)
from shared.options import Profile
from shared.settings import Settings
from shared.telemetry import DEVICE_BUSY_SECONDS, get_logger
from worker.catalog import Model, find_model
from worker.engine import EnginePlan, create, plans
from worker.shapes import ShapeGrid
from worker.testcard import testcard
from worker.transforms import ExactTransforms, Image, Prepared, Size
from worker.trial import survives

log = get_logger(__name__)

NATIVE_PROBE: Size = (1_000, 1_000)
"""The photo size that a model's own resolution is read off with."""

COMMON_RATIOS = (1, 5 / 4, 4 / 3, 3 / 2, 16 / 9)
COMMON_SIZES: tuple[Size, ...] = tuple(
    size
    for ratio in COMMON_RATIOS
    for size in ((3_000, round(3_000 / ratio)), (round(3_000 / ratio), 3_000))
)
"""Upright and lying photos of the usual ratios: the shapes that the `exact` profile makes of them
are warm. It makes one of every ratio and can't warm them all; `fast` has no cold one."""

MAX_DISAGREEMENT = 0.02
"""Most that the mean alpha of the test card may differ between an accelerated and the plain
configuration. Rounding of fp32 stays below 1e-4, bf16 below 0.01; a wrong kernel is far above."""

CPU_PREDICT_BATCH = 1
DEVICE_PREDICT_BATCH = 16
"""Without tuning: on a CPU a larger batch gains nothing an image, on a device it does."""

EXACT_SPARE_SHAPES = 16
"""Further shapes of the `exact` profile that oneDNN's cache keeps."""

Alpha = NDArray[np.float32]


class Predictor:
    """One model on one device. Threads may call `predict_many` at once: they take turns."""

    def __init__(self, settings: Settings, model: Model) -> None:
        """Load, warm up, check. Raises SetupError (see `load_predictor`)."""
        started = time.monotonic()
        self.model = model
        self.settings = settings
        self.exact = ExactTransforms(model.transforms)
        self.fallback: str | None = None
        self._lock = threading.Lock()
        largest = settings.predict_batch_size or (
            CPU_PREDICT_BATCH if settings.device == "cpu" else DEVICE_PREDICT_BATCH
        )
        self.batch_sizes = [1 << power for power in range(largest.bit_length())]
        native = self.exact.size_of(NATIVE_PROBE)
        self.grid = ShapeGrid.around(round((native[0] * native[1]) ** 0.5))
        self.exact_shapes = sorted({self.exact.size_of(size) for size in COMMON_SIZES})
        self._open()
        self._warm_up()
        self.warmup_s = time.monotonic() - started

    def describe(self) -> dict[str, Any]:
        """What this predictor is, for readiness, `doctor` and the log."""
        return {
            "model": self.model.name,
            "fingerprint": self.model.fingerprint(),
            "device": self.settings.device,
            "configuration": self.plan.kind,
            "fallback": self.fallback,
            "threads": self.settings.cpu_threads,
            "shapes": [f"{height}x{width}" for height, width in self.grid.shapes],
            "batch_sizes": self.batch_sizes,
            "warmup_s": round(self.warmup_s, 2),
        }

    def prepare(self, image: Image, profile: Profile) -> Prepared:
        """A photo [H, W, 3] uint8 RGB as an input of the network."""
        if profile is Profile.EXACT:
            return self.exact.prepare(image)
        return self.grid.prepare(image, self.exact.mean, self.exact.std)

    def predict_many(self, prepared: Sequence[Prepared]) -> list[Alpha | MattingError]:
        """An alpha [H, W] float32 in 0..1 at the network's size, or an error, for each input.

        Inputs of one shape run together, in batch sizes that are warm. What fails in a batch is
        tried alone, so that one bad input takes no other along.
        """
        groups: defaultdict[Size, list[int]] = defaultdict(list)
        for index, one in enumerate(prepared):
            groups[one.shape].append(index)
        results: list[Alpha | MattingError] = [PredictorError()] * len(prepared)
        for indices in groups.values():
            while indices:
                size = max(size for size in self.batch_sizes if size <= len(indices))
                chunk, indices = indices[:size], indices[size:]
                outcome = self._run_split([prepared[index].tensor for index in chunk])
                for index, alpha in zip(chunk, outcome, strict=True):
                    results[index] = alpha
        return results

    def _run_split(self, tensors: list[NDArray[np.float32]]) -> list[Alpha | MattingError]:
        try:
            return list(self._run(np.stack(tensors)))
        except PredictorError as error:
            if len(tensors) == 1:
                return [error]
            if isinstance(error, OutOfMemoryError):
                self.batch_sizes = [size for size in self.batch_sizes if size < len(tensors)]
                log.warning("batch-halved", size=len(tensors), now=self.batch_sizes[-1])
            half = len(tensors) // 2
            return self._run_split(tensors[:half]) + self._run_split(tensors[half:])

    def _run(self, batch: NDArray[np.float32]) -> Alpha:
        """[N, 3, H, W] → [N, H, W]. Raises PredictorError, OutOfMemoryError."""
        try:
            with self._lock:
                started = time.perf_counter()
                self._input.reshape(batch.shape)
                self._input.copy_from_cpu(batch)
                self._predictor.run()
                output: NDArray[np.float32] = self._output.copy_to_cpu()
                DEVICE_BUSY_SECONDS.inc(time.perf_counter() - started)
        except Exception as error:  # Paddle raises whatever its C++ side threw
            last = (str(error).strip().splitlines() or [repr(error)])[-1]
            if "out of memory" in str(error).lower() or "ResourceExhausted" in str(error):
                raise OutOfMemoryError(f"The device has too little memory: {last}") from error
            raise PredictorError(f"The device failed: {last}") from error
        alphas = output.reshape(output.shape[0], *output.shape[-2:])
        if not np.isfinite(alphas).all():
            raise PredictorError("The network gave values that are no numbers")
        return np.clip(alphas, 0, 1)

    def _use(self, plan: EnginePlan) -> None:
        self.plan = plan
        self._predictor = create(plan, self.model)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def _open(self) -> None:
        """Take the first plan that runs the test card and agrees with the plain plan."""
        shapes = len(self._warm_inputs()) + EXACT_SPARE_SHAPES
        *accelerated, plain = plans(self.settings, self.model, shapes=shapes)
        self._use(plain)
        try:
            card = self.prepare(testcard(), Profile.FAST)
            truth = self._run(card.tensor[None])
        except PredictorError:
            # An export with a fixed input takes no shape but the one that its deploy.yaml makes.
            self.exact_shapes = [self.exact.size_of(NATIVE_PROBE)]
            self.grid, self.batch_sizes = ShapeGrid(tuple(self.exact_shapes)), [1]
            card = self.prepare(testcard(), Profile.FAST)
            try:
                truth = self._run(card.tensor[None])
            except PredictorError as error:
                raise WarmupError(f"The plain configuration fails: {error.detail}") from error
        for plan in accelerated:
            reason = survives(self.settings, plan, card.shape)
            if reason is None:
                try:
                    self._use(plan)
                    difference = float(np.abs(self._run(card.tensor[None]) - truth).mean())
                    if difference <= MAX_DISAGREEMENT:
                        return
                    reason = f"it disagrees with the plain one by {difference:.3f}"
                except (PredictorError, SetupError) as error:
                    reason = error.detail
            self.fallback = f"{plan.kind} was not used: {reason}"
            log.warning("engine-fallback", configuration=plan.kind, reason=reason)
        self._use(plain)

    def _warm_inputs(self) -> list[tuple[int, Size]]:
        """The batch sizes and shapes that are met at start and never cold after."""
        fast = [(size, shape) for shape in self.grid.shapes for size in self.batch_sizes]
        exact = [(1, shape) for shape in self.exact_shapes if shape not in self.grid.shapes]
        return fast + exact

    def _warm_up(self) -> None:
        """Run every shape in every batch size once: no customer's image meets a cold one."""
        try:
            for size, (height, width) in self._warm_inputs():
                self._run(np.zeros((size, 3, height, width), np.float32))
        except OutOfMemoryError as error:
            raise WarmupError(f"{error.detail}; lower MATTING_PREDICT_BATCH_SIZE") from error
        except PredictorError as error:
            raise WarmupError(error.detail) from error
        if self.fallback is None and self.plan.kind == "plain":
            log.info("engine-plain")


def load_predictor(settings: Settings) -> Predictor:
    """The predictor of these settings, warm and checked.

    Raises ModelLoadError, UnsupportedTransformError, EngineUnavailableError or WarmupError: with
    any of them the process must end, since it could do no work.
    """
    predictor = Predictor(settings, find_model(settings))
    log.info("predictor-warm", **predictor.describe())
    return predictor
