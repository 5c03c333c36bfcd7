"""Which operators of an imported network stay in fp32 where the others run in bf16."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.onnx_graphs import network, node
from tests.unit.test_onnx_operators import normal
from worker.inference.importing import operators  # noqa: F401  # fills the table
from worker.inference.importing.check import Bf16Result
from worker.inference.importing.graph import read_graph
from worker.inference.importing.precision import FP32_MARK, LARGE_BIAS, mark_fp32
from worker.inference.importing.walk import Walk, static_mode

pytestmark = pytest.mark.filterwarnings("ignore")  # Paddle's graph builder causes warnings


def marked(tmp_path: Path, large: str | None) -> dict[str, list[bool]]:
    """Whether each operator is marked, by type in order, of a network of five convolutions in a
    row: `a` sees the photo, `c` sees a join of both branches, `e` makes the logits.
    """
    weights: dict[str, Any] = {}
    for name, shape in {"a": (4, 3), "b": (4, 4), "c": (4, 8), "d": (4, 4), "e": (1, 4)}.items():
        weights[f"{name}_w"] = normal(*shape, 3, 3)
        weights[f"{name}_b"] = np.full(shape[0], LARGE_BIAS if name == large else 1, np.float32)
    weights["scales"] = np.array([1, 1, 2, 2], np.float32)

    def convolution(name: str, source: str) -> list[Any]:
        return [
            node("Conv", f"{source} {name}_w {name}_b", f"{name}_sum", pads=[1, 1, 1, 1]),
            node("Relu", f"{name}_sum", f"{name}_out"),
        ]

    nodes = [
        *convolution("a", "img"),
        node("MaxPool", "a_out", "small", kernel_shape=[2, 2], strides=[2, 2]),
        *convolution("b", "small"),
        node("Resize", "b_out - scales", "large", mode="linear"),
        node("Concat", "large a_out", "joined", axis=1),
        *convolution("c", "joined"),
        *convolution("d", "c_out"),
        node("Add", "d_out a_out", "sum"),
        node("Conv", "sum e_w e_b", "logits", pads=[1, 1, 1, 1]),
        node("Sigmoid", "logits", "alpha"),
    ]
    file = tmp_path / "net.onnx"
    onnx.save(network(nodes, weights, size=(8, 12)), str(file))
    with static_mode():
        walk = Walk(read_graph(file, (8, 12)))
        program, entry, answer = walk.build()
        mark_fp32(program, entry.name, answer.name, walk.weights)
    found: dict[str, list[bool]] = {}
    name, value = FP32_MARK
    for one in program.global_block().ops:
        is_marked = one.has_attr(name) and one.attr(name) == value
        found.setdefault(one.type, []).append(is_marked)
    return found


def test_the_photo_and_the_logits_stay_in_fp32(tmp_path: Path) -> None:
    found = marked(tmp_path, large=None)
    assert found["conv2d"] == [True, False, False, False, True]
    assert found["pool2d"] + found["bilinear_interp_v2"] + found["concat"] == [False] * 3
    # five biases, and the addition before the last convolution
    assert found["elementwise_add"] == [False, False, False, False, True, False]


def test_a_large_bias_keeps_its_convolution_and_what_it_reads_in_fp32(tmp_path: Path) -> None:
    found = marked(tmp_path, large="c")
    assert found["conv2d"] == [True, False, True, False, True]
    assert found["bilinear_interp_v2"] + found["concat"] == [True, True]
    assert found["pool2d"] == [False]
    found = marked(tmp_path, large="b")
    assert found["conv2d"] == [True, True, False, False, True]
    assert found["pool2d"] == [True]


@pytest.mark.parametrize(
    ("mean", "worst", "gain", "pays"),
    [
        (0.001, 0.02, 1.9, True),
        (0.02, 0.02, 1.9, False),
        (0.001, 0.2, 1.9, False),
        (0.001, 0.02, 1.05, False),
    ],
)
def test_bf16_is_used_where_it_is_as_good_and_faster(
    mean: float, worst: float, gain: float, *, pays: bool
) -> None:
    assert Bf16Result(mean, worst, gain).pays is pays
