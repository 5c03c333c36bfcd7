"""The tiny network of tests.benchmarks.tiny in NumPy, as a model of Triton that takes a set time
and fails on purpose.

Parameters in config.pbtxt: `ms` (time of an execution, whatever its size), `ms_per_image`, and
`most` (with more images in a request it reports too little memory).
"""

import json
import os
import sys
import time
from typing import Any

sys.path[:0] = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]

# ruff: noqa: E402
import cv2
import numpy as np
import triton_python_backend_utils as triton
from numpy.typing import NDArray


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        given = json.loads(args["model_config"])["parameters"]
        self.values = {key: one["string_value"] for key, one in given.items()}

    def execute(self, requests: list[Any]) -> list[Any]:
        started = time.monotonic()
        answers, images = [], 0
        for request in requests:
            batch = np.from_dlpack(triton.get_input_tensor_by_name(request, "pixels"))
            images += len(batch)
            if len(batch) > int(self.values.get("most", 1_000)):
                error = triton.TritonError("[device-out-of-memory] Too many images")
                answers.append(triton.InferenceResponse(error=error))
                continue
            alphas = np.stack([_alpha(pixels) for pixels in batch])
            tensor = triton.Tensor.from_dlpack("alphas", alphas.astype(np.float16))
            number = np.full((len(batch), 1), int(self.values["model"]), np.uint64)
            model = triton.Tensor.from_dlpack("model", number)
            answers.append(triton.InferenceResponse([tensor, model]))
        takes_s = float(self.values.get("ms", 0)) / 1e3
        takes_s += images * float(self.values.get("ms_per_image", 0)) / 1e3
        time.sleep(max(0.0, started + takes_s - time.monotonic()))
        return answers


def _alpha(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    summed = (pixels.astype(np.float32) / 127.5 - 1).sum(0)
    mixed = cv2.boxFilter(summed, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    alpha: NDArray[np.float32] = 0.5 + 0.5 * np.tanh(mixed * np.float32(-4 / 9))
    return alpha
