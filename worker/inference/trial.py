"""Tries an engine plan in a process of its own: what crashes there can't take the worker along.

oneDNN and TensorRT can abort in C++ on a graph that they don't know; no except clause sees that.
The child also runs the plain plan, so that the worker never holds the memory of both.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import MattingError, PredictorError, WarmupError
from shared.settings import Settings
from worker.imaging.arrays import Size
from worker.inference.catalog import Model, find_model
from worker.inference.engine import EnginePlan, collecting, plans
from worker.inference.session import PredictorSession
from worker.inference.shapes import ShapeGrid
from worker.inference.testcard import testcard
from worker.inference.transforms import ExactTransforms

TIMEOUT_S = 900
"""Building a TensorRT engine takes minutes; a hang must end all the same."""

MAX_MEAN_DIFFERENCE = 0.02
"""Most that the alpha of the test card may differ on average between an accelerated and the plain
configuration. Rounding of fp32 stays below 1e-4, bf16 below 0.01; a wrong kernel is far above."""

MAX_WORST_DIFFERENCE = 0.25
"""And at the worst thousandth of its pixels: a kernel that spoils a border or a corner only."""
WORST_PERCENTILE = 99.9

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
}
"""The settings that a plan follows from. Secrets stay here."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial showed."""

    reason: str | None
    """Why the plan must not be used; none if it may."""
    shape: int = 0
    """Which of the shapes the plain plan took: an export with a fixed input takes but its own."""


def try_plan(
    settings: Settings, plan: EnginePlan, shapes: Sequence[Size], warm: Sequence[tuple[int, Size]]
) -> TrialResult:
    """Run the test card by this plan and by the plain one, in the first of the shapes that the
    plain one takes. `warm`: batch sizes and shapes that will be met, for plans that are tuned to
    them.

    Raises WarmupError when the plain plan takes none of the shapes.
    """
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
    return TrialResult(answer["reason"], answer["shape"])


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
    warm: list[tuple[int, Size]] = request["warm"]  # type: ignore[assignment]
    *accelerated, plain = plans(settings, model, shapes=1)
    cards = [_card(model, (height, width)) for height, width in shapes]
    session = PredictorSession(plain, model)
    try:
        number, truth = _first_taken(session, cards)
    except PredictorError as error:
        return {"plain_fails": error.detail}
    del session
    gc.collect()
    for plan in accelerated:
        if plan.kind == request["kind"]:
            collect = collecting(settings, model)
            if collect is not None:
                collect_shapes(collect, model, warm)
            reason = _disagreement(PredictorSession(plan, model).run(cards[number]), truth)
            return {"reason": reason, "shape": number}
    return {"reason": None, "shape": number}


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


def _disagreement(alpha: NDArray[np.float32], truth: NDArray[np.float32]) -> str | None:
    difference = np.abs(alpha - truth)
    mean, worst = float(difference.mean()), float(np.percentile(difference, WORST_PERCENTILE))
    if mean > MAX_MEAN_DIFFERENCE or worst > MAX_WORST_DIFFERENCE:
        return f"it disagrees with the plain one by {mean:.3f} on average, {worst:.3f} at worst"
    return None


def _card(model: Model, shape: Size) -> NDArray[np.float32]:
    exact = ExactTransforms(model.transforms)
    return ShapeGrid((shape,)).prepare(testcard(), exact.normalisation).tensor[None]


if __name__ == "__main__":
    sys.exit(main())
