"""Tries an engine plan in a process of its own: what crashes there can't take the worker along.

oneDNN and TensorRT can abort in C++ on a graph that they don't know; no except clause sees that.
"""

import json
import subprocess
import sys

from shared.errors import MattingError
from shared.settings import Settings
from worker.catalog import find_model
from worker.engine import EnginePlan, create, plans
from worker.shapes import ShapeGrid
from worker.testcard import testcard
from worker.transforms import ExactTransforms, Size

TIMEOUT_S = 900
"""Building a TensorRT engine takes minutes; a hang must end all the same."""

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
}
"""The settings that a plan follows from. Secrets stay here."""


def survives(settings: Settings, plan: EnginePlan, shape: Size) -> str | None:
    """None when a child process loads the model by this plan and runs an input of this height and
    width; else why not.
    """
    request = {
        "kind": plan.kind,
        "shape": shape,
        "settings": settings.model_dump(mode="json", include=FIELDS),
    }
    try:
        child = subprocess.run(
            [sys.executable, "-m", "worker.trial"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {TIMEOUT_S} s"
    if child.returncode == 0:
        return None
    if child.returncode < 0:
        return f"it crashed with signal {-child.returncode}"
    return (child.stderr.strip().splitlines() or ["it failed without a word"])[-1]


def main() -> int:
    """The child's part: run the plan that standard input names."""
    request = json.load(sys.stdin)
    settings = Settings(**request["settings"])
    try:
        model = find_model(settings)
        plan = next(p for p in plans(settings, model, shapes=1) if p.kind == request["kind"])
        exact = ExactTransforms(model.transforms)
        height, width = request["shape"]
        card = ShapeGrid(((height, width),)).prepare(testcard(), exact.mean, exact.std)
        predictor = create(plan, model)
        handle = predictor.get_input_handle(predictor.get_input_names()[0])
        handle.reshape([1, *card.tensor.shape])
        handle.copy_from_cpu(card.tensor[None])
        predictor.run()
    except MattingError as error:
        sys.stderr.write(f"\n{error.detail}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
