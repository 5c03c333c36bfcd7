"""The warm predictor: it computes alphas from prepared photos, and is loaded and verified before
any work.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import (
    EngineUnavailableError,
    MattingError,
    OutOfMemoryError,
    PredictionServerError,
    PredictorError,
    WarmupError,
)
from shared.options import Profile
from shared.settings import Settings
from shared.telemetry import PADDING, PREDICT_IMAGES, PREDICT_STREAMS, get_logger
from worker.imaging.arrays import Alpha, Image, Size
from worker.imaging.prepared import PreparedImage
from worker.inference import heap
from worker.inference.catalog import Model, find_model
from worker.inference.engine import EnginePlan, plans, streams
from worker.inference.opening import require_device
from worker.inference.postprocess import Alphas
from worker.inference.session import Batch, PredictorSession, RangedSession, Runs, SessionPool
from worker.inference.shapes import ShapeGrid
from worker.inference.tensorrt import TakenByTensorRT
from worker.inference.transforms import ExactTransforms
from worker.inference.trial import TrialResult, try_plan
from worker.inference.trial_memory import (
    after_the_first,
    failed_before,
    passed_before,
    remember,
    remember_failure,
)

log = get_logger(__name__)

_one_trial = threading.Lock()
"""Predictors may be loaded side by side, but each trial needs memory for two networks."""

NATIVE_PROBE: Size = (1_000, 1_000)
"""The size of a test photo that shows a model's native resolution."""

COMMON_RATIOS = (1, 5 / 4, 4 / 3, 3 / 2, 16 / 9)
COMMON_SIZES: tuple[Size, ...] = tuple(
    size
    for ratio in COMMON_RATIOS
    for size in ((3_000, round(3_000 / ratio)), (round(3_000 / ratio), 3_000))
)
"""Portrait and landscape photos of common ratios. Their shapes in the `exact` profile are warmed
up; that profile has a shape for every ratio and cannot warm up all. `fast` has no cold shape.
"""

CPU_PREDICT_BATCH = 1
DEVICE_PREDICT_BATCH = 16
"""Default without tuning. A larger batch is faster on a device, but not on a CPU."""

PING_TIMEOUT_S = 60
"""It waits for the batches that are running: a few seconds on a slow processor."""

EXACT_KEPT_SHAPES = 2
"""Number of `exact` shapes that stay in oneDNN's cache beside the grid's. With one, two shapes of
the grid were displaced, too. The other COMMON_SIZES
are compiled at start, too, and only reorder their weights when used: 5 % slower for the built-in
model, 14 % for PP-MattingV2.
"""


class Predictor:
    """One model on one device. Several threads may call `predict_many` at the same time. Close it
    after them.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        fallback: str | None = None,
        *,
        warm_shapes: bool = True,
    ) -> None:
        """Load, verify and warm up the model. `fallback`: why it differs from the settings;
        `warm_shapes`: see `load_predictor`. Raises SetupError (see there, too).
        """
        started = time.monotonic()
        self.model = model
        self.settings = settings
        self.exact = ExactTransforms(model.transforms)
        self.fallback = fallback
        self.tensorrt: TakenByTensorRT | None = None
        self.streams = streams(settings)
        self.batch_sizes = warm_batch_sizes(settings)
        self.grid = shape_grid(model)
        if model.fixed_shape:
            self._fix_shape(model.fixed_shape, one_at_a_time=model.one_at_a_time)
        else:
            self.exact_shapes = sorted({self.exact.size_of(size) for size in COMMON_SIZES})
        self.plan = self._choose_plan()
        self._networks = SessionPool(self._open, self.streams)
        PREDICT_STREAMS.inc(self.networks)
        self.warmup_s = time.monotonic() - started
        try:
            model.require_unchanged()
            if warm_shapes:
                self.warm_up()
        except BaseException:
            self.close()
            raise

    def warm_up(self) -> None:
        """Run every shape in every batch size once, so that no customer's image meets a cold shape.
        Call it when the networks of all models are open (worker.inference.side_by_side).

        Raises WarmupError.
        """
        started = time.monotonic()
        self._networks.warm_up(self._run_shapes)
        heap.trim()
        self.warmup_s += time.monotonic() - started

    def close(self) -> None:
        """Release the device."""
        self._networks.close()
        PREDICT_STREAMS.dec(self.networks)

    @property
    def networks(self) -> int:
        """The number of networks that compute in this process."""
        return self.streams

    def describe(self) -> dict[str, Any]:
        """The description of this predictor for readiness, `doctor` and the log."""
        return {
            "model": self.model.name,
            "fingerprint": self.model.fingerprint,
            "device": self.plan.device,
            "configuration": self.plan.kind,
            "precision": self.plan.precision,
            "pixels": self.plan.takes_pixels,
            "tensorrt": self.tensorrt and asdict(self.tensorrt),
            "fallback": self.fallback,
            "streams": self.streams,
            "threads": self.settings.cpu_threads,
            "shapes": [f"{height}x{width}" for height, width in self.grid.shapes],
            "batch_sizes": self.batch_sizes,
            "warmup_s": round(self.warmup_s, 2),
        }

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        """Prepare a photo [H, W, 3] uint8 RGB as a network input."""
        if profile is Profile.EXACT:
            return self.exact.prepare(image)
        return self.grid.prepare(image)

    def predict_many(self, prepared: Sequence[PreparedImage]) -> list[Alpha | MattingError]:
        """An alpha [H, W] float32 in 0..1 at the network's size, or an error, for each input.

        Inputs of one shape run together, in warmed-up batch sizes. If a batch fails, its inputs run
        alone, so that a bad input does not fail the others.
        """
        groups: defaultdict[Size, list[int]] = defaultdict(list)
        for index, one in enumerate(prepared):
            groups[one.shape].append(index)
            PADDING.observe(1 - one.content)
        running: list[tuple[list[int], Future[Alphas]]] = []
        for indices in groups.values():
            while indices:
                size = max(size for size in self.batch_sizes if size <= len(indices))
                chunk, indices = indices[:size], indices[size:]
                pixels = np.stack([prepared[index].image for index in chunk])
                running.append((chunk, self._run(pixels, of=len(prepared))))
                PREDICT_IMAGES.observe(len(chunk))
        results: list[Alpha | MattingError] = [PredictorError()] * len(prepared)
        for chunk, future in running:
            outcome = self._settled(future, [prepared[index] for index in chunk])
            for index, alpha in zip(chunk, outcome, strict=True):
                results[index] = alpha
        return results

    def ping(self) -> None:
        """Check that the device computes. Raises PredictorError, or PredictionServerError if the
        device is a server.
        """
        height, width = self.grid.shapes[0]
        answer = self._run(np.zeros((1, height, width, 3), np.uint8), of=0)
        try:
            answer.result(PING_TIMEOUT_S)
        except TimeoutError as error:
            raise PredictorError(f"The device gave no answer for {PING_TIMEOUT_S} s") from error

    def _settled(
        self, running: "Future[Alphas]", inputs: list[PreparedImage]
    ) -> list[Alpha | MattingError]:
        """The result of a batch; if it failed, the results of its halves."""
        try:
            return list(running.result())
        except PredictionServerError as error:
            return [error] * len(inputs)  # smaller batches would meet the same server
        except PredictorError as error:
            if len(inputs) == 1:
                return [error]
            if isinstance(error, OutOfMemoryError):
                self.batch_sizes = [size for size in self.batch_sizes if size < len(inputs)]
                log.warning("batch-halved", size=len(inputs), now=self.batch_sizes[-1])
        half = len(inputs) // 2
        halves = inputs[:half], inputs[half:]
        both = [
            (part, self._run(np.stack([one.image for one in part]), of=len(part)))
            for part in halves
        ]
        return [alpha for part, future in both for alpha in self._settled(future, part)]

    def _input(self, pixels: NDArray[np.uint8]) -> Batch:
        """What a session receives for the pixels [N, H, W, 3]."""
        return pixels if self.plan.takes_pixels else self.exact.normalisation.apply(pixels)

    def _run(self, pixels: NDArray[np.uint8], *, of: int) -> "Future[Alphas]":
        """[N, H, W, 3] → [N, H, W], on a free stream."""
        return self._networks.submit(self._input(pixels), of=of)

    def _fix_shape(self, shape: Size, *, one_at_a_time: bool = True) -> None:
        """Use one shape, because the export accepts no other."""
        self.exact_shapes = [shape]
        self.grid = ShapeGrid((shape,), squeeze=self.exact.squeezes)
        if one_at_a_time:
            self.batch_sizes = [1]

    def _choose_plan(self) -> EnginePlan:
        """The first plan that runs the test card and gives the same alphas as the plain CPU plan.

        Raises EngineUnavailableError if the device cannot be used, WarmupError if no plan passes.
        """
        capacity = len(self.grid.shapes) * len(self.batch_sizes) + EXACT_KEPT_SHAPES
        warm = self._warm_inputs()
        known = plans(self.settings, self.model, shapes=capacity, warm=warm)
        # An export with a fixed input that its deploy.yaml does not declare accepts only the shape
        # that its transforms produce.
        candidates = [self.grid.choose(NATIVE_PROBE)[0], self.exact.size_of(NATIVE_PROBE)]
        if self.settings.engine_fallback == "none":
            known = known[: known.index(_required(known)[0]) + 1]
        for plan in known:
            if plan.kind == "plain" and len(_required(known)) > 1:
                return plan  # the other plans were compared with it, so it works
            result = self._tried(plan, candidates, warm, last=plan is known[-1])
            if result.shape > 0:
                self._fix_shape(candidates[result.shape])
            if result.reason is None:
                self.tensorrt = result.tensorrt
                return plan
            if plan.optional:
                log.info(
                    "engine-passed-over",
                    configuration=plan.kind,
                    pixels=plan.takes_pixels,
                    reason=result.reason,
                )
                continue
            reason = f"{plan.kind} ({plan.precision}) was not used: {result.reason}"
            self.fallback = "; ".join(filter(None, [self.fallback, reason]))
            log.error(
                "engine-fallback",
                configuration=plan.kind,
                precision=plan.precision,
                reason=result.reason,
            )
        raise WarmupError(
            f"{self.fallback}. MATTING_ENGINE_FALLBACK={self.settings.engine_fallback} allows "
            "no other engine"
        )

    def _tried(
        self,
        plan: EnginePlan,
        candidates: list[Size],
        warm: list[tuple[int, Size]],
        *,
        last: bool,
    ) -> TrialResult:
        try:
            require_device(plan)
        except EngineUnavailableError as error:
            if last:
                raise
            return TrialResult(error.detail)
        shape = passed_before(self.settings, self.model, plan, candidates)
        if shape is not None:
            return TrialResult(None, shape)
        with after_the_first(self.settings, self.model, plan, candidates):
            failed = failed_before(self.settings, self.model, plan, candidates)
            if failed is not None:
                return TrialResult(failed[1], failed[0])
            with _one_trial:
                result = try_plan(self.settings, plan, candidates, warm)
            if result.reason is None:
                remember(self.settings, self.model, plan, candidates, result.shape)
            elif result.lasting:
                remember_failure(
                    self.settings, self.model, plan, candidates, result.shape, result.reason
                )
        return result

    def _warm_inputs(self) -> list[tuple[int, Size]]:
        """The batch sizes and shapes to warm up at start."""
        exact = [(1, shape) for shape in self.exact_shapes if shape not in self.grid.shapes]
        fast = [(size, shape) for shape in self.grid.shapes for size in self.batch_sizes]
        return exact + fast

    def _open(self) -> Runs:
        session = PredictorSession(self.plan, self.model)
        if self.plan.kind != "tensorrt":
            return session
        *_, plain = plans(self.settings, self.model, shapes=1)
        plain = replace(plain, graph=self.plan.graph)
        inputs = self._warm_inputs()
        return RangedSession(session, inputs, lambda: PredictorSession(plain, self.model))

    def _run_shapes(self, session: Runs) -> None:
        """Warm up a network, in its thread.

        The grid comes first: a full cache of oneDNN drops one of the newest (Paddle 3.2.2), so what
        comes later does not displace it. The largest input is the very first. A tensor that grows
        step by step leaves holes in the heap: the built-in model's two networks would take 20 to 50
        MB more.
        """
        inputs = self._warm_inputs()
        kept = [one for one in inputs if one[1] in self.grid.shapes]
        order = sorted(kept, key=_pixels, reverse=True)
        order += [one for one in inputs if one not in kept]
        try:
            for count, (height, width) in order:
                session.run(self._input(np.zeros((count, height, width, 3), np.uint8)))
        except OutOfMemoryError as error:
            raise WarmupError(f"{error.detail}; lower MATTING_PREDICT_BATCH_SIZE") from error
        except PredictorError as error:
            raise WarmupError(error.detail) from error


def _pixels(one: tuple[int, Size]) -> int:
    count, (height, width) = one
    return count * height * width


def _required(known: Sequence[EnginePlan]) -> list[EnginePlan]:
    return [plan for plan in known if not plan.optional]


def shape_grid(model: Model) -> ShapeGrid:
    """The input shapes of the `fast` profile: those around the model's native resolution, or the
    only one that its export accepts. Raises UnsupportedTransformError.
    """
    exact = ExactTransforms(model.transforms)
    if model.fixed_shape:
        return ShapeGrid((model.fixed_shape,), squeeze=exact.squeezes)
    height, width = exact.size_of(NATIVE_PROBE)
    return ShapeGrid.around(round((height * width) ** 0.5))


def warm_batch_sizes(settings: Settings) -> list[int]:
    """The batch sizes that are warmed up at start: powers of two, ascending."""
    largest = settings.predict_batch_size or (
        CPU_PREDICT_BATCH if settings.device == "cpu" else DEVICE_PREDICT_BATCH
    )
    return [1 << power for power in range(largest.bit_length())]


def load_predictor(settings: Settings, *, warm_shapes: bool = True) -> Predictor:
    """The warm and verified predictor for these settings. If the device cannot be used, it runs on
    the CPU where the settings allow it. `warm_shapes=False` leaves out the warm-up, for a few
    photos of one shape: each first photo of a shape takes longer then.

    Raises ModelLoadError, UnsupportedTransformError, EngineUnavailableError or WarmupError. The
    process must end then, because it cannot work.
    """
    model = find_model(settings)
    try:
        predictor = _on_device(settings, model, warm_shapes=warm_shapes)
    except (EngineUnavailableError, WarmupError) as error:
        if settings.device == "cpu" or settings.engine_fallback != "cpu":
            raise
        log.error("engine-fallback", configuration=settings.device, reason=error.detail)
        on_cpu = {
            "device": "cpu",
            "precision": "auto",
            "tensorrt": False,
            "predict_batch_size": CPU_PREDICT_BATCH,
            "predict_streams": None,
        }
        reason = f"{settings.device} was not used: {error.detail}"
        copy = settings.model_copy(update=on_cpu)
        predictor = Predictor(copy, model, reason, warm_shapes=warm_shapes)
    if warm_shapes:
        log.info("predictor-warm", **predictor.describe())
    return predictor


def _on_device(settings: Settings, model: Model, *, warm_shapes: bool) -> Predictor:
    if settings.device == "triton":
        # a subclass of Predictor; only such a worker needs its libraries
        from worker.inference.triton_predictor import TritonPredictor

        return TritonPredictor(settings, model)
    return Predictor(settings, model, warm_shapes=warm_shapes)
