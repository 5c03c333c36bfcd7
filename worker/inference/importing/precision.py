"""Marks the operators of an imported network that stay in fp32 where the others run in bf16.

A bf16 number has 8 significant bits. Three places of a network need more: the photo's pixels, the
logits, whose steps would show at soft edges, and convolutions with large biases. Such a
convolution computes a small difference of large numbers. U²-NetP has two: with them in bf16 some
alphas are 0.8 off, without them 0.04.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from worker.inference.engine import BF16_OPERATORS
from worker.inference.importing.graph import Array

LARGE_BIAS = 128.0
"""From here on, neighbouring bf16 numbers are at least 1 apart."""

FP32_MARK = ("mkldnn_data_type", "int8")
"""The attribute that keeps Paddle 3.2.2 from running an operator in bf16: its pass
(cpu_bfloat16_placement_pass) leaves out operators that a quantiser has marked as int8. Without
int8 weights nothing else reads the mark.
"""

CONVOLUTIONS = frozenset({"conv2d", "depthwise_conv2d", "conv2d_transpose"})


def mark_fp32(program: Any, entry: str, answer: str, weights: dict[str, Array]) -> int:
    """Mark the first and the last convolutions of a program and those with large biases, with all
    operators between them and the convolutions before and behind. Returns the number of marks.

    `entry` and `answer` are the names of the program's input and output; `weights` are its
    constants by name.
    """
    operators = list(program.global_block().ops)
    maker = {name: one for one in operators for name in one.output_arg_names}
    marked: dict[str, Any] = {}

    def mark(operator: Any) -> None:
        moves = operator.type in BF16_OPERATORS and not _adds_bias(operator, weights)
        if moves or operator.type in CONVOLUTIONS:
            marked[operator.output_arg_names[0]] = operator

    def mark_before(names: Iterable[str]) -> list[Any]:
        """Mark what makes these tensors. Returns the convolutions that the way back ends at."""
        ends: list[Any] = []
        waiting, seen = list(names), set()
        while waiting:
            name = waiting.pop()
            if name in seen or name not in maker:
                continue
            seen.add(name)
            operator = maker[name]
            if operator.type in CONVOLUTIONS:
                ends.append(operator)
                continue
            mark(operator)
            waiting += operator.input_arg_names
        return ends

    large = {
        operator.input("X")[0]
        for operator in operators
        if _adds_bias(operator, weights)
        and np.abs(weights[operator.input("Y")[0]]).max() >= LARGE_BIAS
    }
    last = mark_before([answer])
    exact = [
        one
        for one in operators
        if one.type in CONVOLUTIONS
        and (one.output_arg_names[0] in large or entry in one.input_arg_names)
    ]
    for convolution in (*last, *exact):
        mark(convolution)
        mark_before(convolution.input("Input"))
    for operator in marked.values():
        operator.desc._set_attr(*FP32_MARK)
    return len(marked)


def _adds_bias(operator: Any, weights: dict[str, Array]) -> bool:
    return operator.type == "elementwise_add" and operator.input("Y")[0] in weights
