"""Tries an engine plan in a child process, so that a crash does not kill the worker.

oneDNN and TensorRT may abort in C++ on an unsupported graph, which Python cannot catch. The child
also runs the plain CPU plan, so that the worker never needs memory for both, and compares the
alphas of the two plans.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import MattingError, OutOfMemoryError, PredictorError, WarmupError
from shared.parent_death import end_with_parent
from shared.settings import Precision, Settings
from worker.imaging.arrays import Size
from worker.inference.building import build_engines, build_program
from worker.inference.catalog import Model, find_model
from worker.inference.engine import (
    EnginePlan,
    plans,
    reference,
    talkative,
)
from worker.inference.postprocess import Alphas
from worker.inference.session import PredictorSession
from worker.inference.shapes import ShapeGrid
from worker.inference.tensorrt import (
    TakenByTensorRT,
    taken,
    why_not,
)
from worker.inference.testcard import testcard
from worker.inference.transforms import ExactTransforms

OPTIONAL_TIMEOUT_S = 600
"""Together with the trial of the next plan it ends within the 30 minutes of a start on Kubernetes.
"""

TIMEOUT_S = 900
"""Building a TensorRT engine takes minutes; after this time the trial counts as hanging."""

TOLERANCES: dict[Precision, float] = {"fp32": 0.01, "bf16": 0.02, "fp16": 0.02, "int8": 0.05}
"""Largest mean difference between the alpha of the test card and that of the plain CPU plan.
Measured on CPUs: rounding in fp32 stays below 1e-4 and bf16 below 0.01; a wrong kernel is far
above.
"""

WORST_TOLERANCE = 12.5
"""Largest difference at the worst 0.1 % of the pixels, as a multiple of the mean tolerance: it
detects a kernel that spoils only a border or a corner.
"""
WORST_PERCENTILE = 99.9

SPEAKS = "worker.inference.trial: now the plan that is tried"
"""A line in the child's log that precedes the output of a plan."""

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
"""The settings that determine a plan. Secrets are not passed to the child."""


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial."""

    reason: str | None
    """Why the plan must not be used; None if it passed."""
    shape: int = 0
    """Index of the shape that the plain plan accepted; an export with a fixed input accepts only
    its own.
    """
    tensorrt: TakenByTensorRT | None = None
    """What TensorRT runs; None if the plan does not use it."""
    lasting: bool = True
    """Whether the same trial would fail again: not if memory or a writable folder was missing."""


def try_plan(
    settings: Settings, plan: EnginePlan, shapes: Sequence[Size], warm: Sequence[tuple[int, Size]]
) -> TrialResult:
    """Run the test card with this plan and with the plain CPU plan, in the first shape that the
    latter accepts. `warm`: batch sizes and shapes that will occur, for plans that are tuned to
    them.

    Raises WarmupError if the plain plan accepts none of the shapes.
    """
    obstacle = why_not(find_model(settings)) if plan.kind == "tensorrt" else None
    if obstacle is not None:
        return TrialResult(obstacle)
    request = {
        "kind": plan.kind,
        "pixels": plan.takes_pixels,
        "shapes": list(shapes),
        "warm": list(warm),
        "settings": settings.model_dump(mode="json", include=FIELDS),
    }
    limit_s = OPTIONAL_TIMEOUT_S if plan.optional else TIMEOUT_S
    try:
        child = _run_child(request, limit_s)
    except subprocess.TimeoutExpired:
        return TrialResult(f"it did not end within {limit_s} s")
    if child.returncode < 0:
        killed = child.returncode == -signal.SIGKILL  # by whoever gives out memory
        return TrialResult(f"it crashed with signal {-child.returncode}", lasting=not killed)
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["it failed without a message"])[-1]
        return TrialResult(last, lasting=child.returncode != os.EX_TEMPFAIL)
    answer = json.loads(child.stdout.strip().splitlines()[-1])
    if "plain_fails" in answer:
        raise WarmupError(f"The plain configuration fails: {answer['plain_fails']}")
    if plan.kind != "tensorrt":
        return TrialResult(answer["reason"], answer["shape"])
    found = taken(child.stderr.rpartition(SPEAKS)[2])
    nothing = None if found.engines else "TensorRT took no part of the graph"
    return TrialResult(answer["reason"] or nothing, answer["shape"], found)


def plain_alpha(settings: Settings, shapes: Sequence[Size]) -> tuple[int, Alphas]:
    """The index of the first shape that the plain CPU plan accepts, and its alpha [1, H, W] of the
    test card. It runs in a child process, which keeps Paddle out of this one.

    Raises WarmupError.
    """
    on_cpu = {"device": "cpu", "precision": "auto", "tensorrt": False}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "alpha.npy"
        request = {
            "kind": "plain",
            "pixels": False,
            "shapes": list(shapes),
            "warm": [],
            "settings": settings.model_copy(update=on_cpu).model_dump(mode="json", include=FIELDS),
            "alpha_file": str(file),
        }
        try:
            child = _run_child(request)
            child.check_returncode()
            answer = json.loads(child.stdout.strip().splitlines()[-1])
            if "plain_fails" in answer:
                raise WarmupError(f"The plain configuration fails: {answer['plain_fails']}")
            return int(answer["shape"]), np.load(file)
        except subprocess.CalledProcessError as error:
            last = (str(error.stderr).strip().splitlines() or ["no message"])[-1]
            raise WarmupError(f"The plain configuration fails: {last}") from error
        except subprocess.TimeoutExpired as error:
            raise WarmupError(f"The plain configuration took over {TIMEOUT_S} s") from error


def _run_child(
    request: dict[str, Any], limit_s: float = TIMEOUT_S
) -> "subprocess.CompletedProcess[str]":
    """Run `main` in a child process. Raises subprocess.TimeoutExpired."""
    return subprocess.run(
        [sys.executable, "-m", "worker.inference.trial"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def main() -> int:
    """The child process: run the plan from standard input, and the plain one."""
    # One that hangs would keep the device and the lock of what it builds from later starts.
    end_with_parent(signal.SIGKILL)
    request = json.load(sys.stdin)
    settings = Settings(**request["settings"])
    try:
        model = find_model(settings)
        answer = _compare(settings, model, request)
    except MattingError as error:
        sys.stderr.write(f"\n{error.detail}\n")
        passing = isinstance(error, OutOfMemoryError) or isinstance(error.__cause__, OSError)
        return os.EX_TEMPFAIL if passing else 1
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    return 0


def _compare(settings: Settings, model: Model, request: dict[str, object]) -> dict[str, object]:
    shapes: list[list[int]] = request["shapes"]  # type: ignore[assignment]
    warm: list[tuple[int, Size]] = [
        (count, (height, width))
        for count, (height, width) in request["warm"]  # type: ignore[attr-defined]
    ]
    known = {
        (plan.kind, plan.takes_pixels): plan for plan in plans(settings, model, shapes=1, warm=warm)
    }
    plan = known[request["kind"], request["pixels"]]  # type: ignore[index]
    truthful = reference(settings, model)
    if plan.kind == "tensorrt":  # Paddle's log can be silenced only for the whole process
        plan, truthful = talkative(plan), talkative(truthful)
    cards = [_card((height, width)) for height, width in shapes]
    if plan.graph is not None and max((count for count, _ in warm), default=1) > 1:
        # two photos show what the program does to a batch; an export may take only one at a time
        cards = [*map(_with_another, cards), *cards]
    normalisation = ExactTransforms(model.transforms).normalisation
    session = PredictorSession(truthful, model)
    try:
        number, truth = _first_taken(session, [normalisation.apply(card) for card in cards])
    except PredictorError as error:
        return {"plain_fails": error.detail}
    del session
    gc.collect()
    if plan.kind == truthful.kind:
        if "alpha_file" in request:
            np.save(str(request["alpha_file"]), truth)
        return {"reason": None, "shape": number}
    if plan.graph is not None:
        build_program(truthful, model, plan.graph, cards[number], truth)
    if plan.kind == "tensorrt":
        build_engines(settings, model, warm, plan.graph)
    sys.stderr.write(f"\n{SPEAKS}\n")
    sys.stderr.flush()
    card = cards[number] if plan.takes_pixels else normalisation.apply(cards[number])
    alpha = PredictorSession(plan, model).run(card)
    reason = disagreement(settings, plan.precision, alpha, truth)
    return {"reason": reason, "shape": number % len(shapes)}


def _first_taken(
    session: PredictorSession, cards: Sequence[NDArray[np.float32]]
) -> tuple[int, Alphas]:
    """The index of the first input that the network accepts, and its alpha. Raises PredictorError
    if it accepts none.
    """
    last = PredictorError()
    for number, card in enumerate(cards):
        try:
            return number, session.run(card)
        except PredictorError as error:
            last = error
    raise last


def disagreement(
    settings: Settings, precision: Precision, alpha: Alphas, truth: Alphas
) -> str | None:
    """How an alpha of the test card differs from that of the plain CPU plan; None if it does not,
    within the tolerance for this precision.
    """
    tolerance = {**TOLERANCES, **settings.alpha_tolerances}[precision]
    difference = np.abs(alpha - truth)
    mean, worst = float(difference.mean()), float(np.percentile(difference, WORST_PERCENTILE))
    if mean > tolerance or worst > WORST_TOLERANCE * tolerance:
        return (
            f"its mattes are not the CPU's: {mean:.3f} away on average, {worst:.3f} at worst; "
            f"{tolerance:g} is allowed (MATTING_ALPHA_TOLERANCES)"
        )
    return None


def _card(shape: Size) -> NDArray[np.uint8]:
    return ShapeGrid((shape,)).prepare(testcard()).image[None]


def _with_another(card: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The card, and as a second photo its mirror image, half as bright."""
    return np.concatenate([card, card[:, :, ::-1] // 2])


if __name__ == "__main__":
    sys.exit(main())
