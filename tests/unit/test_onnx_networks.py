"""Parts of popular networks with random weights, compared with onnxruntime: a Swin encoder block,
and a deformable convolution that an exporter wrote with GatherND.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.models.onnx_files import import_file
from shared.settings import Settings
from tests.onnx_graphs import Weights, network, node
from tests.unit.test_onnx_operators import compare, f, i, normal
from worker.inference.catalog import Model
from worker.inference.engine import ConfigCall, PaddlePrecision, plans
from worker.inference.importing.recipe import LIKE

pytestmark = pytest.mark.filterwarnings("ignore")  # Paddle's graph builder causes warnings

HEADS, DEPTH, WINDOW, SIDE = 2, 8, 4, 12


def swin_block(*, shift: int) -> tuple[list[Any], Weights]:
    """Photo patches, one block of window attention (shifted or not), patch merging.

    Liu et al., Swin Transformer, 2021, as PyTorch exports it for a batch of one.
    """
    tokens, windows = WINDOW**2, (SIDE // WINDOW) ** 2
    wide = HEADS * DEPTH
    weights: Weights = {
        "embed": normal(wide, 3, 2, 2),
        "flat": i(1, wide, SIDE * SIDE),
        "norm_s": normal(wide), "norm_b": normal(wide),
        "square": i(1, SIDE, SIDE, wide),
        "parted": i(1, SIDE // WINDOW, WINDOW, SIDE // WINDOW, WINDOW, wide),
        "windows": i(-1, tokens, wide),
        "qkv_w": normal(wide, 3 * wide) * f(0.3), "qkv_b": normal(3 * wide),
        "split_heads": i(windows, tokens, 3, HEADS, DEPTH),
        "first": np.array(0, np.int64), "second": np.array(1, np.int64),
        "third": np.array(2, np.int64),
        "scale": f(DEPTH**-0.5),
        "bias": normal(1, HEADS, tokens, tokens),
        "by_photo": i(1, windows, HEADS, tokens, tokens),
        "by_window": i(-1, HEADS, tokens, tokens),
        "mask": np.where(normal(1, windows, 1, tokens, tokens) > 1, f(-100), f(0)),
        "joined": i(windows, tokens, wide),
        "proj_w": normal(wide, wide) * f(0.3),
        "back_parts": i(-1, SIDE // WINDOW, SIDE // WINDOW, WINDOW, WINDOW, wide),
        "back_square": i(1, SIDE, SIDE, wide),
        "sequence": i(1, SIDE * SIDE, wide),
        "fc1": normal(wide, 4 * wide) * f(0.3), "fc2": normal(4 * wide, wide) * f(0.1),
        "root": f(2**0.5), "half": f(0.5), "one": f(1),
        "zero_i": i(0), "one_i": i(1), "far": i(2**63 - 1), "two_i": i(2),
        "axis_h": i(1), "axis_w": i(2), "at_shift": i(shift), "at_back": i(-shift),
        "quarter": i(1, (SIDE // 2) ** 2, 4 * wide),
        "merge": normal(4 * wide, 2 * wide) * f(0.2),
    }  # fmt: skip
    nodes = [
        node("Conv", "img embed", "patches", strides=[2, 2]),
        node("Reshape", "patches flat", "p1"),
        node("Transpose", "p1", "x0", perm=[0, 2, 1]),
        node("LayerNormalization", "x0 norm_s norm_b", "n0"),
        node("Reshape", "n0 square", "s0"),
    ]
    inside = "s0"
    if shift:
        nodes += rolled("s0", "s1", "at_shift")
        inside = "s1"
    nodes += [
        node("Reshape", f"{inside} parted", "w0"),
        node("Transpose", "w0", "w1", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "w1 windows", "w2"),
        node("MatMul", "w2 qkv_w", "q0"),
        node("Add", "q0 qkv_b", "q1"),
        node("Reshape", "q1 split_heads", "q2"),
        node("Transpose", "q2", "q3", perm=[2, 0, 3, 1, 4]),
        node("Gather", "q3 first", "q", axis=0),
        node("Gather", "q3 second", "k", axis=0),
        node("Gather", "q3 third", "v", axis=0),
        node("Mul", "q scale", "qs"),
        node("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
        node("MatMul", "qs kt", "a0"),
        node("Add", "a0 bias", "a1"),
        node("Reshape", "a1 by_photo", "a2"),
        node("Add", "a2 mask", "a3"),
        node("Reshape", "a3 by_window", "a4"),
        node("Softmax", "a4", "a5", axis=-1),
        node("MatMul", "a5 v", "o0"),
        node("Transpose", "o0", "o1", perm=[0, 2, 1, 3]),
        node("Reshape", "o1 joined", "o2"),
        node("MatMul", "o2 proj_w", "o3"),
        node("Reshape", "o3 back_parts", "b0"),
        node("Transpose", "b0", "b1", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "b1 back_square", "b2"),
    ]
    outside = "b2"
    if shift:
        nodes += rolled("b2", "b3", "at_back")
        outside = "b3"
    nodes += [
        node("Reshape", f"{outside} sequence", "r0"),
        node("Add", "x0 r0", "x1"),
        node("LayerNormalization", "x1 norm_s norm_b", "m0"),
        node("MatMul", "m0 fc1", "m1"),
        node("Div", "m1 root", "g0"),
        node("Erf", "g0", "g1"),
        node("Add", "g1 one", "g2"),
        node("Mul", "m1 g2", "g3"),
        node("Mul", "g3 half", "g4"),
        node("MatMul", "g4 fc2", "m2"),
        node("Add", "x1 m2", "x2"),
        node("Reshape", "x2 square", "y"),
    ]
    for number, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        starts = ("zero_i", "one_i")
        nodes += [
            node("Slice", f"y {starts[row]} far axis_h two_i", f"h{number}"),
            node("Slice", f"h{number} {starts[column]} far axis_w two_i", f"e{number}"),
        ]
    nodes += [
        node("Concat", "e0 e1 e2 e3", "e", axis=3),
        node("Reshape", "e quarter", "e4"),
        node("MatMul", "e4 merge", "alpha"),
    ]
    return nodes, weights


def rolled(given: str, made: str, at: str) -> list[Any]:
    """torch.roll over height and width: the part that is cut off at the start is appended at the
    end.
    """
    nodes = []
    for axis, (source, target) in (
        ("axis_h", (given, f"{made}_h")), ("axis_w", (f"{made}_h", made)),
    ):  # fmt: skip
        nodes += [
            node("Slice", f"{source} {at} far {axis}", f"{target}_a"),
            node("Slice", f"{source} zero_i {at} {axis}", f"{target}_b"),
            node("Concat", f"{target}_a {target}_b", target, axis=1 if axis == "axis_h" else 2),
        ]
    return nodes


def test_a_mask_for_all_windows_is_repeated_for_each_photo(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", "img parted", "p"),
        node("Transpose", "p", "t", perm=[0, 2, 4, 1, 3, 5]),
        node("Reshape", "t windows", "w"),
        node("Add", "w mask", "alpha"),
    ]
    weights: Weights = {
        "parted": i(1, 3, 2, 4, 3, 4), "windows": i(6, 3, 4, 4), "mask": normal(6, 1, 4, 4),
    }  # fmt: skip
    compare(network(nodes, weights, size=(8, 12), batch=1), tmp_path, batches=(1, 2, 3))


@pytest.mark.parametrize("shift", [0, 2])
def test_a_swin_block_takes_any_batch(shift: int, tmp_path: Path) -> None:
    nodes, weights = swin_block(shift=shift)
    size = (2 * SIDE, 2 * SIDE)
    model = network(nodes, weights, size=size, batch=1)
    compare(model, tmp_path, size=size, batches=(1, 2, 3), tolerance=2e-4)


def deformable(size: tuple[int, int], *, channels: int = 5) -> tuple[list[Any], Weights]:
    """A modulated deformable convolution of 3 × 3 taps as exporters write it.

    GatherND reads corners of the padded photo. They are weighted, arranged as a picture of 3H × 3W,
    and convolved.
    """
    height, width = size
    tall, broad = height + 2, width + 2
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    base = np.zeros((1, 1, 9, 2, height, width), np.float32)
    for tap in range(9):
        base[0, 0, tap, 0], base[0, 0, tap, 1] = rows + tap // 3, columns + tap % 3
    corner = i(1, 1, height * width * 9, 1)
    weights: Weights = {
        "wide_w": normal(channels, 3, 1, 1), "offset_w": normal(18, channels, 3, 3) * f(0.3),
        "mask_w": normal(9, channels, 3, 3), "pads": i(0, 0, 1, 1, 0, 0, 1, 1),
        "offsets": i(1, 1, 9, 2, height, width), "base": base,
        "t": i(0), "l": i(1), "r": i(2), "three": i(3), "one": np.array(1, np.int64),
        "none": np.array(0, np.int64), "one_f": f(1),
        "last_y": np.array(tall - 1, np.int64), "last_x": np.array(broad - 1, np.int64),
        "corner": corner, "weight": i(1, 1, 1, 9, height, width),
        "groups": i(1, 1, channels, tall, broad), "taken": i(1, 1, channels, 9, height, width),
        "spread": i(1, channels, height, width, 9), "third": i(3, 3, 3),
        "row": i(1, channels, height, width * 3), "whole": i(1, channels, height * 3, width * 3),
        "conv": normal(4, channels, 3, 3),
    }  # fmt: skip
    nodes = [
        node("Conv", "img wide_w", "x"),
        node("Conv", "x offset_w", "o0", pads=[1, 1, 1, 1]),
        node("Conv", "x mask_w", "m0", pads=[1, 1, 1, 1]),
        node("Sigmoid", "m0", "m1"),
        node("Reshape", "m1 weight", "mask"),
        node("Pad", "x pads", "padded"),
        node("Reshape", "o0 offsets", "o1"),
        node("Add", "base o1", "p"),
        node("Floor", "p", "p0"),
        node("Cast", "p0", "p1", to=7),
        node("Slice", "p1 t l three", "top0"),
        node("Slice", "p1 l r three", "left0"),
        node("Add", "top0 one", "bottom0"),
        node("Add", "left0 one", "right0"),
        node("Sub", "p p0", "d"),
        node("Slice", "d t l three", "dy"),
        node("Slice", "d l r three", "dx"),
        node("Sub", "one_f dy", "ey"),
        node("Sub", "one_f dx", "ex"),
        node("Reshape", "padded groups", "g0"),
        node("Transpose", "g0", "g", perm=[0, 1, 3, 4, 2]),
    ]
    for name, last in (("top", "y"), ("bottom", "y"), ("left", "x"), ("right", "x")):
        nodes += [
            node("Clip", f"{name}0 none last_{last}", f"{name}1"),
            node("Transpose", f"{name}1", f"{name}2", perm=[0, 1, 3, 4, 5, 2]),
            node("Transpose", f"{name}1", f"{name}3", perm=[0, 1, 2, 4, 5, 3]),
            node("Reshape", f"{name}3 corner", name),
        ]
    parts = []
    for y, x, wy, wx in (
        ("top", "left", "ey", "ex"), ("bottom", "right", "dy", "dx"),
        ("bottom", "left", "dy", "ex"), ("top", "right", "ey", "dx"),
    ):  # fmt: skip
        part = f"{y}_{x}"
        nodes += [
            node("Concat", f"{y} {x}", f"{part}_at", axis=3),
            node("GatherND", f"g {part}_at", f"{part}_v0", batch_dims=2),
            node("Transpose", f"{part}_v0", f"{part}_v1", perm=[0, 1, 3, 2]),
            node("Reshape", f"{part}_v1 taken", f"{part}_v"),
            node("Mul", f"{wy} {wx}", f"{part}_w0"),
            node("Reshape", f"{part}_w0 weight", f"{part}_w"),
            node("Mul", f"{part}_w {part}_v", part),
        ]
        parts.append(part)
    nodes += [
        node("Sum", " ".join(parts), "v0"),
        node("Mul", "v0 mask", "v1"),
        node("Transpose", "v1", "v2", perm=[0, 1, 2, 4, 5, 3]),
        node("Reshape", "v2 spread", "v3"),
        node("Split", "v3 third", "s0 s1 s2", axis=4),
        *[node("Reshape", f"s{n} row", f"t{n}") for n in range(3)],
        node("Concat", "t0 t1 t2", "t3", axis=3),
        node("Reshape", "t3 whole", "t4"),
        node("Conv", "t4 conv", "alpha", strides=[3, 3]),
    ]
    return nodes, weights


def test_a_decomposed_deformable_convolution_takes_any_batch(tmp_path: Path) -> None:
    size = (6, 8)
    nodes, weights = deformable(size)
    model = network(nodes, weights, size=size, batch=1)
    compare(model, tmp_path, size=size, batches=(1, 2, 3), tolerance=2e-4)


def test_an_imported_network_gets_the_same_gpu_plan_as_paddleseg_s(tmp_path: Path) -> None:
    graph, params = tmp_path / "model.pdmodel", tmp_path / "model.pdiparams"
    graph.write_bytes(b"g")
    params.write_bytes(b"p")
    model = Model(
        "isnet", graph, params, ({"type": "Normalize"},), (1_024, 1_024), postprocess=("Sigmoid",)
    )
    asked = Settings(device="gpu:0", tensorrt=True, precision="fp16", predict_batch_size=8)
    _, accelerated, _, plain = plans(asked, model, shapes=4)
    assert (accelerated.kind, plain.kind) == ("tensorrt", "cuda")
    engine = next(one for one in accelerated.calls if one.method == "enable_tensorrt_engine")
    assert engine.arguments[1] == 8, "batches are as large as for any other model"
    assert engine.arguments[3] == PaddlePrecision("Half")
    assert ConfigCall("enable_memory_optim") in accelerated.calls


def test_the_published_isnet(tmp_path: Path) -> None:
    """Runs only if ISNET_ONNX names the file (88 MB, fp16, of @imgly/background-removal)."""
    file = os.environ.get("ISNET_ONNX")
    if not file:
        pytest.skip("ISNET_ONNX names no file")
    new = import_file("isnet", Path(file), LIKE["isnet"], tmp_path)
    assert new.imported.agreement.worst <= 2 / 255
    assert new.imported.agreement.onednn_fails is None
    assert new.imported.free_batch
