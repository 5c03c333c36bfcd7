"""A worker whose network runs in PyTorch: celery -A tests.benchmarks.torch_worker worker.

Everything but the forward pass is the worker's own: queue, claims, storage, codecs, preparation,
review, recording. So a GPU without Paddle shows what the rest allows. `MATTING_MODEL` names a
folder that `write_model` wrote; `BENCHMARK_PIXELS` is `uint8` or `float32`.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from shared.settings import Settings
from tests.benchmarks.ppmattingv2_size import TRANSFORMS
from worker.inference import side_by_side
from worker.inference.catalog import find_model
from worker.inference.engine import EnginePlan
from worker.inference.postprocess import Alphas
from worker.inference.predictor import Predictor
from worker.inference.session import Batch, Runs

ISNET = [
    {"type": "LoadImages"},
    {"type": "Resize", "target_size": [1024, 1024]},
    {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3},
]
DEPLOY: dict[str, dict[str, Any]] = {
    "isnet": {"transforms": ISNET, "input_shape": [-1, 3, 1024, 1024]},
    "ppmattingv2": {"transforms": TRANSFORMS},
}


def write_model(folder: Path, name: str) -> Path:
    """Write a model's folder with its transforms, and with an empty graph. Returns the folder."""
    folder.mkdir(parents=True)
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": DEPLOY[name]}))
    (folder / "model.pdmodel").write_text(name)
    (folder / "model.pdiparams").touch()
    return folder


class TorchSession:
    """A network in PyTorch. Not thread-safe."""

    def __init__(self, name: str) -> None:
        # PyTorch is no dependency
        from tests.benchmarks.torch_networks import OnDevice

        self._net = OnDevice(name)

    def run(self, batch: Batch) -> Alphas:
        """Run one forward pass; returns alphas in 0..1."""
        answer = self._net.run(batch)
        alphas: Alphas = answer.astype(np.float32)
        return alphas / np.float32(255) if answer.dtype == np.uint8 else alphas


class TorchPredictor(Predictor):
    """The product's predictor with networks in PyTorch."""

    def _choose_plan(self) -> EnginePlan:
        return EnginePlan("cuda", (), self.settings.device, "fp16")

    def _open(self) -> Runs:
        return TorchSession(self.model.graph.read_text())

    def _input(self, pixels: NDArray[np.uint8]) -> Batch:
        if os.environ.get("BENCHMARK_PIXELS") == "uint8":
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        return super()._input(pixels)


def load(settings: Settings, *, warm_shapes: bool = True) -> Predictor:
    """Stands in for `load_predictor`."""
    return TorchPredictor(settings, find_model(settings), warm_shapes=warm_shapes)


side_by_side.load_predictor = load  # type: ignore[attr-defined]

from worker.app import app  # noqa: E402, F401 - it loads the predictors, so it comes last
