"""Serves one model of `matting` in NVIDIA Triton's Python backend.

Triton starts this file in a process of its own for each instance. It runs the same predictor as a
worker: the same engine, the same checks at start, the same input shapes. `matting models
export-triton` writes a copy of it into the model repository; MATTING_ variables of the server
(MATTING_TENSORRT, MATTING_PRECISION, ...) choose the engine.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

# Python is embedded in Triton's process, which in some releases ignores PYTHONPATH. The second
# variable names the Python that runs child processes, where it is not the system's: the engine is
# tried in one.
sys.path[:0] = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
sys.executable = os.environ.get("TRITON_CHILD_PYTHON") or sys.executable

# ruff: noqa: E402
import numpy as np
import triton_python_backend_utils as triton
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.settings import Settings
from shared.telemetry import configure_logging
from worker.imaging.prepared import PreparedImage
from worker.inference.predictor import load_predictor
from worker.inference.triton_wire import ALPHAS, MODEL, PIXELS, PREDICT_BATCH_SIZE, model_number


class TritonPythonModel:
    """One instance of the model: Triton calls these methods, one after the other."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load and verify the model; Triton reports an exception as the reason why it is not ready.

        `args` are Triton's: the folder of this version, the instance's device, config.pbtxt as
        JSON.
        """
        config = json.loads(args["model_config"])
        device = f"gpu:{args['model_instance_device_id']}"
        changed = {
            "model": str(Path(args["model_repository"]) / args["model_version"] / "bundle"),
            "device": device if args["model_instance_kind"] == "GPU" else "cpu",
            "predict_batch_size": int(config["parameters"][PREDICT_BATCH_SIZE]["string_value"]),
        }
        settings = Settings().model_copy(update=changed)
        configure_logging(settings)
        self.predictor = load_predictor(settings)
        self.number = model_number(self.predictor.model)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of one batch, each with its alphas or with its own error.

        The requests may have different shapes: the predictor runs inputs of one shape together.
        """
        inputs: list[PreparedImage] = []
        counts: list[int] = []
        for request in requests:
            # DLPack both ways: Triton's own conversion corrupts arrays of NumPy 2 in some releases.
            batch = np.from_dlpack(triton.get_input_tensor_by_name(request, PIXELS))
            counts.append(len(batch))
            inputs += [self._prepared(pixels) for pixels in batch]
        results = self.predictor.predict_many(inputs)
        answers, start = [], 0
        for count in counts:
            answers.append(self._answer(results[start : start + count]))
            start += count
        return answers

    def _prepared(self, pixels: NDArray[np.uint8]) -> PreparedImage:
        """Pixels [3, H, W] as an input of the network."""
        return PreparedImage(np.ascontiguousarray(pixels.transpose(1, 2, 0)), ())

    def _answer(self, results: list[Any]) -> Any:
        """The alphas of one request, or the first error among its images."""
        failed = next((one for one in results if isinstance(one, MattingError)), None)
        if failed is not None:
            error = triton.TritonError(f"[{failed.code}] {failed.detail}")
            return triton.InferenceResponse(error=error)
        alphas = np.stack(results).astype(np.float16)
        number = np.full((len(results), 1), self.number, np.uint64)
        return triton.InferenceResponse(
            [triton.Tensor.from_dlpack(ALPHAS, alphas), triton.Tensor.from_dlpack(MODEL, number)]
        )

    def finalize(self) -> None:
        """Release the device."""
        self.predictor.close()
