"""Tries an engine plan in a process of its own: what crashes there can't take the worker along.

oneDNN and TensorRT can abort in C++ on a graph that they don't know; no except clause sees that.
The child also runs the plain CPU's plan, so that the worker never holds the memory of both: every
other plan's mattes are compared with those, on whatever device it runs.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import EngineUnavailableError, MattingError, PredictorError, WarmupError
from shared.settings import Precision, Settings
from worker.imaging.arrays import Size
from worker.inference.catalog import Model, find_model
from worker.inference.engine import (
    EnginePlan,
    collecting,
    plans,
    reference,
    talkative,
    tensorrt_plan,
)
from worker.inference.session import PredictorSession
from worker.inference.shapes import ShapeGrid
from worker.inference.tensorrt import (
    SHAPE_RANGES,
    TakenByTensorRT,
    build_once,
    engine_folder,
    taken,
    why_not,
)
from worker.inference.testcard import testcard
from worker.inference.transforms import ExactTransforms

TIMEOUT_S = 900
"""Building a TensorRT engine takes minutes; a hang must end all the same."""

TOLERANCES: dict[Precision, float] = {"fp32": 0.01, "bf16": 0.02, "fp16": 0.02, "int8": 0.05}
"""Most that the alpha of the test card may differ on average from the plain CPU's. Measured on
CPUs: rounding of fp32 stays below 1e-4, bf16 below 0.01; a wrong kernel is far above."""

WORST_TOLERANCE = 12.5
"""And, times as much, at the worst thousandth of its pixels: a kernel that spoils a border or a
corner only."""
WORST_PERCENTILE = 99.9

SPEAKS = "worker.inference.trial: now the plan that is tried"
"""In the child's log: what follows is about that plan."""

FIELDS = {
    "model",
    "models_dir",
    "device",
    "precision",
    "tensorrt",
    "cpu_threads",
    "gpu_memory_pool_mb",
    "engine_cache_dir",
    "predict_batch_size",
    "predict_streams",
    "alpha_tolerances",
}
"""The settings that a plan follows from. Secrets stay here."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial showed."""

    reason: str | None
    """Why the plan must not be used; none if it may."""
    shape: int = 0
    """Which of the shapes the plain plan took: an export with a fixed input takes but its own."""
    tensorrt: TakenByTensorRT | None = None
    """What TensorRT runs; none: it was not asked."""


def try_plan(
    settings: Settings, plan: EnginePlan, shapes: Sequence[Size], warm: Sequence[tuple[int, Size]]
) -> TrialResult:
    """Run the test card by this plan and by the plain CPU's, in the first of the shapes that the
    latter takes. `warm`: batch sizes and shapes that will be met, for plans that are tuned to them.

    Raises WarmupError when the plain plan takes none of the shapes.
    """
    obstacle = why_not(find_model(settings)) if plan.kind == "tensorrt" else None
    if obstacle is not None:
        return TrialResult(obstacle)
    request = {
        "kind": plan.kind,
        "shapes": list(shapes),
        "warm": list(warm),
        "settings": settings.model_dump(mode="json", include=FIELDS),
    }
    try:
        child = subprocess.run(
            [sys.executable, "-m", "worker.inference.trial"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return TrialResult(f"it did not end within {TIMEOUT_S} s")
    if child.returncode < 0:
        return TrialResult(f"it crashed with signal {-child.returncode}")
    if child.returncode != 0:
        return TrialResult((child.stderr.strip().splitlines() or ["it failed without a word"])[-1])
    answer = json.loads(child.stdout.strip().splitlines()[-1])
    if "plain_fails" in answer:
        raise WarmupError(f"The plain configuration fails: {answer['plain_fails']}")
    if plan.kind != "tensorrt":
        return TrialResult(answer["reason"], answer["shape"])
    found = taken(child.stderr.rpartition(SPEAKS)[2])
    nothing = None if found.engines else "TensorRT took no part of the graph"
    return TrialResult(answer["reason"] or nothing, answer["shape"], found)


def main() -> int:
    """The child's part: run the plan that standard input names, and the plain one."""
    request = json.load(sys.stdin)
    settings = Settings(**request["settings"])
    try:
        model = find_model(settings)
        answer = _compare(settings, model, request)
    except MattingError as error:
        sys.stderr.write(f"\n{error.detail}\n")
        return 1
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    return 0


def _compare(settings: Settings, model: Model, request: dict[str, object]) -> dict[str, object]:
    shapes: list[list[int]] = request["shapes"]  # type: ignore[assignment]
    warm: list[tuple[int, Size]] = [
        (count, (height, width))
        for count, (height, width) in request["warm"]  # type: ignore[attr-defined]
    ]
    known = {plan.kind: plan for plan in plans(settings, model, shapes=1, warm=warm)}
    plan, truthful = known[request["kind"]], reference(settings, model)  # type: ignore[index]
    if plan.kind == "tensorrt":  # whoever silences Paddle's log does it for the whole process
        plan, truthful = talkative(plan), talkative(truthful)
    cards = [_card(model, (height, width)) for height, width in shapes]
    session = PredictorSession(truthful, model)
    try:
        number, truth = _first_taken(session, cards)
    except PredictorError as error:
        return {"plain_fails": error.detail}
    del session
    gc.collect()
    if plan.kind == truthful.kind:
        return {"reason": None, "shape": number}
    if plan.kind == "tensorrt":
        build_engines(settings, model, warm)
    sys.stderr.write(f"\n{SPEAKS}\n")
    sys.stderr.flush()
    tolerance = {**TOLERANCES, **settings.alpha_tolerances}[plan.precision]
    alpha = PredictorSession(plan, model).run(cards[number])
    return {"reason": _disagreement(alpha, truth, tolerance), "shape": number}


def build_engines(settings: Settings, model: Model, warm: Sequence[tuple[int, Size]]) -> None:
    """Note the ranges of shapes and build TensorRT's engines, unless they are there.

    Raises EngineUnavailableError when they can't be kept.
    """

    def build(folder: Path) -> None:
        noting = collecting(settings, model, folder / SHAPE_RANGES)
        collect_shapes(talkative(noting), model, warm)
        session = PredictorSession(talkative(tensorrt_plan(settings, model, folder)), model)
        count, (height, width) = warm[0]
        session.run(np.zeros((count, 3, height, width), np.float32))
        del session
        gc.collect()

    folder = engine_folder(settings, model, warm)
    try:
        build_once(folder, build)
    except OSError as error:
        raise EngineUnavailableError(
            f"TensorRT's files can't be kept in {folder.parent} (MATTING_ENGINE_CACHE_DIR): {error}"
        ) from error


def _first_taken(
    session: PredictorSession, cards: Sequence[NDArray[np.float32]]
) -> tuple[int, NDArray[np.float32]]:
    """The number of the first input that the network takes, and its alpha. Raises PredictorError
    when it takes none.
    """
    last = PredictorError()
    for number, card in enumerate(cards):
        try:
            return number, session.run(card)
        except PredictorError as error:
            last = error
    raise last


def collect_shapes(plan: EnginePlan, model: Model, warm: Sequence[tuple[int, Size]]) -> None:
    """Let Paddle note the range of every tensor's shape over all inputs that will be met."""
    session = PredictorSession(plan, model)
    for count, (height, width) in warm:
        session.run(np.zeros((count, 3, height, width), np.float32))
    del session  # the file is written when the predictor ends
    gc.collect()


def _disagreement(
    alpha: NDArray[np.float32], truth: NDArray[np.float32], tolerance: float
) -> str | None:
    difference = np.abs(alpha - truth)
    mean, worst = float(difference.mean()), float(np.percentile(difference, WORST_PERCENTILE))
    if mean > tolerance or worst > WORST_TOLERANCE * tolerance:
        return (
            f"its mattes are not the CPU's: {mean:.3f} away on average, {worst:.3f} at worst; "
            f"{tolerance:g} is allowed (MATTING_ALPHA_TOLERANCES)"
        )
    return None


def _card(model: Model, shape: Size) -> NDArray[np.float32]:
    exact = ExactTransforms(model.transforms)
    return ShapeGrid((shape,)).prepare(testcard(), exact.normalisation).tensor[None]


if __name__ == "__main__":
    sys.exit(main())
