"""The part of paddle.inference that the engine plans call."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddle import asked, note

silent = False
"""Silencing the log affects the whole process, as in Paddle."""


def _log(text: str) -> None:
    if not silent:
        sys.stderr.write(f"I1126 07:00:00.000000     1 tensorrt_subgraph_pass.cc:1] {text}\n")
        sys.stderr.flush()


class PrecisionType:
    Float32, Half, Int8 = "Float32", "Half", "Int8"


def get_trt_compile_version() -> tuple[int, int, int]:
    return (0, 0, 0) if "tensorrt" in asked().get("without", []) else (10, 5, 0)


class Config:
    """Records its calls."""

    def __init__(self, graph: str, params: str) -> None:
        self.graph, self.calls = graph, {}  # type: ignore[var-annotated]

    def pass_builder(self) -> "Config":
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.__setitem__(name, arguments)


class _Handle:
    array: NDArray[Any]

    def reshape(self, shape: Any) -> None:
        pass

    def copy_from_cpu(self, array: NDArray[Any]) -> None:
        self.array = array

    def copy_to_cpu(self) -> NDArray[Any]:
        return self.array


class Predictor:
    def __init__(self, config: Config) -> None:
        global silent
        calls = config.calls
        silent = silent or "disable_glog_info" in calls
        named = {"enable_use_gpu": "cuda", "enable_xpu": "xpu", "enable_custom_device": "npu"}
        self.device = next((named[name] for name in calls if name in named), "cpu")
        self.ranges = calls.get("collect_shape_range_info", [None])[0]
        self.seen: list[Any] = []
        if "enable_tensorrt_engine" in calls and not config.graph.endswith(".json"):
            self.device = "tensorrt"
            folder = Path(calls["set_optim_cache_dir"][0])
            (ranges, at_runtime) = calls["enable_tuned_tensorrt_dynamic_shape"]
            assert not at_runtime
            assert Path(ranges).read_text().endswith("end"), "a file that is half written"
            for number, operators in enumerate(asked().get("subgraphs", [])):
                _log(f"---  detect a sub-graph with {operators} nodes")
                self._engine(folder / f"trt_serialized_{number}")
        self.pixels = Path(config.graph).read_bytes() == b"pixels"
        if self.pixels and asked().get("refuses") == f"{self.device} pixels":
            raise RuntimeError("Unsupported data type: uint8")
        if asked().get("crash") == self.device:
            os.abort()
        if asked().get("hangs") == self.device:
            while True:
                time.sleep(1)
        self.input, self.output, self.finite = _Handle(), _Handle(), _Handle()

    def _engine(self, file: Path) -> None:
        if file.exists():
            assert file.read_text() == "engine", "an engine that is half written"
            _log(f"Load TRT Optimized Info from {file}")
            return
        _log("Prepare TRT engine (Optimize model structure, Select OP kernel etc).")
        with file.open("w") as writing:
            writing.write("eng")
            writing.flush()
            time.sleep(0.1)
            writing.write("ine")
        note("builds", str(file))

    def get_input_names(self) -> list[str]:
        return ["img"]

    def get_output_names(self) -> list[str]:
        return ["alphas", *(["finite"] if self.pixels else [])]

    def get_input_handle(self, name: str) -> _Handle:
        return self.input

    def get_output_handle(self, name: str) -> _Handle:
        return self.finite if name == "finite" else self.output

    def run(self) -> None:
        array = self.input.array
        assert (array.dtype == np.uint8) is self.pixels
        self.seen.append(array.shape)
        tensor = array.transpose(0, 3, 1, 2) / 127.5 - 1 if self.pixels else array
        alpha = np.clip(0.5 + tensor.mean(1, keepdims=True) / 4, 0, 0.9)
        errors = asked().get("error", {})
        alpha = alpha + errors.get(self.device, 0)
        if self.pixels:
            alpha = alpha + errors.get(f"{self.device} pixels", 0)
            if asked().get("mixes"):
                alpha = np.repeat(alpha[:1], len(alpha), axis=0)
        self.finite.array = np.ones(len(array), bool)
        self.output.array = (
            np.rint(alpha * 255).astype("uint8") if self.pixels else alpha.astype("float32")
        )

    def __del__(self) -> None:
        if getattr(self, "ranges", None):
            if not Path(self.ranges).parent.is_dir():
                os.abort()  # as in Paddle 3.2.2
            Path(self.ranges).write_text(f"{self.seen} end")


def create_predictor(config: Config) -> Predictor:
    return Predictor(config)
