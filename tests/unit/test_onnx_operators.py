"""Every supported ONNX operator in a small graph, compared with onnxruntime: one photo and a batch
of two.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.errors import UnsupportedOperatorError
from tests.onnx_graphs import Weights, network, node, red_matte
from worker.inference.importing import operators  # noqa: F401  # fills the table
from worker.inference.importing.graph import read_graph
from worker.inference.importing.walk import OPERATORS, BatchIsFixed, Walk, static_mode

pytestmark = pytest.mark.filterwarnings("ignore")  # Paddle's graph builder causes warnings

SIZE = (8, 12)
TOLERANCE = 2e-5
rng = np.random.default_rng(7)


def f(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def i(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def normal(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def compare(
    model: onnx.ModelProto,
    folder: Path,
    *,
    size: tuple[int, int] = SIZE,
    batches: Sequence[int] = (1, 2),
    tolerance: float = TOLERANCE,
    photos: NDArray[np.float32] | None = None,
) -> None:
    """Check that the built program gives the same answers as onnxruntime."""
    import paddle

    file = folder / "net.onnx"
    onnx.save(model, str(file))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    with static_mode():
        walk = Walk(read_graph(file, size), free_batch=max(batches) > 1)
        program, entry, answer = walk.build()
        scope = paddle.static.Scope()
        with paddle.static.scope_guard(scope):
            for name, array in walk.weights.items():
                scope.var(name).get_tensor().set(array, paddle.CPUPlace())
            executor = paddle.static.Executor(paddle.CPUPlace())
            for batch in batches:
                x = normal(batch, 3, *size) if photos is None else photos[:batch]
                # A batch must give what its photos give one by one. This also works for files with
                # a batch of one.
                wanted = [session.run(["alpha"], {"img": one[None]})[0] for one in x]
                truth = np.stack(wanted)
                (found,) = executor.run(program, feed={entry.name: x}, fetch_list=[answer])
                np.testing.assert_allclose(
                    np.asarray(found).reshape(truth.shape).astype(np.float64),
                    truth.astype(np.float64),
                    atol=tolerance,
                    rtol=1e-4,
                )


Case = tuple[Sequence[Any], Weights, int]


def one(kind: str, extra: str = "", weights: Weights | None = None, **attributes: Any) -> Case:
    """A network of a single node."""
    return [node(kind, f"img {extra}".strip(), "alpha", **attributes)], weights or {}, 17


def positive(kind: str) -> Case:
    nodes = [node("Abs", "img", "a"), node("Add", "a c", "b"), node(kind, "b", "alpha")]
    return nodes, {"c": f(0.5)}, 17


def at(opset: int, case: Case) -> Case:
    return case[0], case[1], opset


def to_float(kind: str, inputs: str, weights: Weights, **attributes: Any) -> Case:
    """A single node that returns bools or integers."""
    nodes = [
        node(kind, inputs, "b", **attributes),
        node("Cast", "b", "alpha", to=onnx.TensorProto.FLOAT),
    ]
    return nodes, weights, 17


def scalar(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


PLAIN = (
    "Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Erf", "Floor", "Ceil", "Sin", "Cos", "Sign",
    "Softplus", "Softsign", "Identity", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "HardSwish",
    "Reciprocal", "Dropout",
)  # fmt: skip
REDUCTIONS = (
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceSumSquare", "ReduceLogSumExp",
)  # fmt: skip

CASES: dict[str, Case] = {
    **{
        kind: one(kind)
        for kind in PLAIN
    },
    "Mish": at(18, one("Mish")),
    "Log": positive("Log"),
    "Sqrt": positive("Sqrt"),
    "LeakyRelu-alpha": one("LeakyRelu", alpha=0.3),
    "HardSigmoid-alpha": one("HardSigmoid", alpha=0.15, beta=0.4),
    "Gelu": at(20, one("Gelu")),
    "Gelu-tanh": at(20, one("Gelu", approximate="tanh")),
    "Round": (
        [node("Mul", "img c", "a"), node("Round", "a", "b"), node("Div", "b c", "alpha")],
        {"c": f(2)},
        17,
    ),
    "Round-halves": (
        [node("Floor", "img", "a"), node("Add", "a c", "b"), node("Round", "b", "alpha")],
        {"c": f(0.5)},
        17,
    ),
    "PRelu-channel": one("PRelu", "s", {"s": normal(3, 1, 1)}),
    "PRelu-one": one("PRelu", "s", {"s": f(0.2)}),
    "PRelu-any": one("PRelu", "s", {"s": normal(1, 8, 12)}),
    "Clip": one("Clip", "a b", {"a": scalar(-0.5), "b": scalar(0.7)}),
    "Clip-low": one("Clip", "a", {"a": scalar(-0.5)}),
    "Clip-six": one("Clip", "a b", {"a": scalar(0), "b": scalar(6)}),
    "Clip-10": at(10, one("Clip", min=-0.5, max=0.5)),
    "Add": one("Add", "c", {"c": normal(3, 1, 1)}),
    "Add-number": one("Add", "c", {"c": f(2.5)}),
    "Sub": ([node("Sub", "c img", "alpha")], {"c": normal(1, 3, 8, 12)}, 17),
    "Sub-number": ([node("Sub", "c img", "alpha")], {"c": f(1.0)}, 17),
    "Mul": one("Mul", "c", {"c": normal(1, 1, 8, 1)}),
    "Mul-number": one("Mul", "c", {"c": f(-2)}),
    "Div": one("Div", "c", {"c": normal(12) + 3}),
    "Div-number": one("Div", "c", {"c": f(3)}),
    "Div-by-photo": (
        [node("Exp", "img", "e"), node("Div", "c e", "alpha")], {"c": f(2)}, 17,
    ),
    "Pow": one("Pow", "c", {"c": f(2)}),
    "Pow-half": ([node("Abs", "img", "a"), node("Pow", "a c", "alpha")], {"c": f(0.5)}, 17),
    "Pow-three": one("Pow", "c", {"c": f(3)}),
    "Pow-each": (
        [node("Exp", "img", "e"), node("Pow", "e c", "alpha")], {"c": normal(3, 1, 1)}, 17,
    ),
    "Mod": (
        [
            node("Cast", "img", "k", to=onnx.TensorProto.INT64),
            node("Mod", "k c", "m"),
            node("Cast", "m", "alpha", to=onnx.TensorProto.FLOAT),
        ],
        {"c": i(3)},
        17,
    ),
    "Mod-fmod": one("Mod", "c", {"c": f(0.7)}, fmod=1),
    "Max": one("Max", "c d", {"c": normal(3, 1, 1), "d": f(0.1)}),
    "Min": one("Min", "c", {"c": normal(3, 1, 1)}),
    "Sum": one("Sum", "c img", {"c": normal(3, 1, 1)}),
    "Mean": one("Mean", "c img", {"c": normal(3, 1, 1)}),
    "Equal": to_float("Equal", "img img", {}),
    "Greater": to_float("Greater", "img c", {"c": f(0)}),
    "GreaterOrEqual": to_float("GreaterOrEqual", "img c", {"c": normal(3, 1, 1)}),
    "Less": to_float("Less", "img c", {"c": f(0)}),
    "LessOrEqual": to_float("LessOrEqual", "c img", {"c": f(0)}),
    "And-Or-Xor-Not-Where": (
        [
            node("Greater", "img z", "a"),
            node("Less", "img o", "b"),
            node("And", "a b", "c"),
            node("Or", "a b", "d"),
            node("Xor", "c d", "e"),
            node("Not", "e", "g"),
            node("Where", "g img w", "alpha"),
        ],
        {"z": f(0), "o": f(1), "w": normal(3, 1, 1)},
        17,
    ),
    "Cast-int": to_float("Cast", "img", {}, to=onnx.TensorProto.INT32),
    # Convolutions and pools
    "Conv": one("Conv", "w b", {"w": normal(4, 3, 3, 3), "b": normal(4)}, pads=[1, 1, 1, 1]),
    "Conv-dilated": one("Conv", "w", {"w": normal(4, 3, 3, 3)}, dilations=[2, 2], strides=[2, 1]),
    "Conv-uneven": one("Conv", "w", {"w": normal(4, 3, 2, 3)}, pads=[0, 1, 1, 1]),
    "Conv-groups": one("Conv", "w b", {"w": normal(6, 1, 3, 3), "b": normal(6)}, group=3),
    **{
        f"Conv-{mode}": one("Conv", "w", {"w": normal(2, 3, 4, 3)}, auto_pad=mode, strides=[2, 2])
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
    },
    "ConvTranspose": one(
        "ConvTranspose", "w b", {"w": normal(3, 4, 3, 3), "b": normal(4)},
        strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1],
    ),
    "ConvTranspose-plain": one("ConvTranspose", "w", {"w": normal(3, 2, 2, 2)}, strides=[2, 2]),
    "ConvTranspose-groups": one(
        "ConvTranspose", "w b", {"w": normal(3, 2, 3, 3), "b": normal(6)}, group=3,
    ),
    "ConvTranspose-uneven": one(
        "ConvTranspose", "w", {"w": normal(3, 2, 3, 3)}, strides=[2, 2], pads=[1, 0, 0, 1],
    ),
    "ConvTranspose-same": one(
        "ConvTranspose", "w", {"w": normal(3, 2, 3, 3)}, strides=[2, 2], auto_pad="SAME_UPPER",
    ),
    "MaxPool": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    "MaxPool-padded": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool-ceil": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "MaxPool-same": one("MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    "AveragePool": one("AveragePool", kernel_shape=[2, 3], strides=[2, 3]),
    "AveragePool-outside": one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "AveragePool-counted": one(
        "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1,
    ),
    "AveragePool-ceil": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "GlobalAveragePool": one("GlobalAveragePool"),
    "GlobalMaxPool": one("GlobalMaxPool"),
    # Norms
    "BatchNormalization": (
        [node("Relu", "img", "x"), node("BatchNormalization", "x s b m v", "alpha")],
        {"s": normal(3), "b": normal(3) + 1, "m": normal(3), "v": np.abs(normal(3)) + 0.5},
        17,
    ),
    "InstanceNormalization": one(
        "InstanceNormalization", "s b", {"s": f(1, 2, 3), "b": f(3, 2, 1)},
    ),
    "LayerNormalization": one("LayerNormalization", "s b", {"s": normal(12), "b": normal(12)}),
    "LayerNormalization-two": one(
        "LayerNormalization", "s", {"s": normal(8, 12)}, axis=-2, epsilon=1e-3,
    ),
    "GroupNormalization": at(
        21, one("GroupNormalization", "s b", {"s": normal(3), "b": normal(3)}, num_groups=3),
    ),
    "LpNormalization": one("LpNormalization", axis=1, p=2),
    "LpNormalization-1": one("LpNormalization", axis=-1, p=1),
    "Softmax": one("Softmax", axis=1),
    "LogSoftmax": one("LogSoftmax", axis=-1),
    "Softmax-11": at(11, one("Softmax", axis=2)),
    # Reductions
    **{
        kind: one(kind, axes=[2, 3])
        for kind in REDUCTIONS
    },
    "ReduceSum": one("ReduceSum", "a", {"a": i(1)}, keepdims=0),
    "ReduceSum-11": at(11, one("ReduceSum", axes=[1], keepdims=0)),
    "ReduceMean-18": at(18, one("ReduceMean", "a", {"a": i(-1)})),
    "ReduceL2-18": at(18, one("ReduceL2", "a", {"a": i(1)})),
    "ReduceSum-nothing": one("ReduceSum", noop_with_empty_axes=1),
    "ArgMax": to_float("ArgMax", "img", {}, axis=1),
    "ArgMin": to_float("ArgMin", "img", {}, axis=3, keepdims=0),
    "TopK": (
        [node("TopK", "img k", "alpha where", axis=-1, largest=1)], {"k": i(3)}, 17,
    ),
    # Shapes
    "Transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "Reshape": one("Reshape", "s", {"s": i(0, -1, 6)}),
    "Reshape-one": one("Reshape", "s", {"s": i(1, 3, 4, 2, 6, 2)}),
    "Flatten": one("Flatten", axis=1),
    "Squeeze-Unsqueeze": (
        [
            node("ReduceMean", "img", "x", axes=[1]),
            node("Squeeze", "x a", "y"),
            node("Unsqueeze", "y b", "alpha"),
        ],
        {"a": i(1), "b": i(-1, 1)},
        17,
    ),
    "Squeeze-Unsqueeze-11": (
        [
            node("ReduceMean", "img", "x", axes=[1]),
            node("Squeeze", "x", "y", axes=[1]),
            node("Unsqueeze", "y", "alpha", axes=[1]),
        ],
        {},
        11,
    ),
    "Slice": one(
        "Slice", "s e a t", {"s": i(1, -9), "e": i(7, 2**62), "a": i(2, 3), "t": i(2, 3)},
    ),
    "Slice-plain": one("Slice", "s e", {"s": i(0, 1), "e": i(2**31, 3)}),
    "Slice-backwards": one(
        "Slice", "s e a t", {"s": i(-1), "e": i(-(2**62)), "a": i(3), "t": i(-1)},
    ),
    "Slice-9": at(9, one("Slice", starts=[2], ends=[-1], axes=[3])),
    "Split-Concat": (
        [
            node("Split", "img s", "a b", axis=3),
            node("Concat", "b a", "alpha", axis=3),
        ],
        {"s": i(5, 7)},
        17,
    ),
    "Split-even": (
        [node("Split", "img", "a b c", axis=1), node("Concat", "c a b", "alpha", axis=1)], {}, 11,
    ),
    "Split-18": (
        [
            node("Split", "img", "a b", axis=1, num_outputs=2),
            node("Concat", "b a", "alpha", axis=1),
        ],
        {},
        18,
    ),
    "Concat-constant": one("Concat", "c", {"c": normal(1, 2, 8, 12)}, axis=1),
    "Expand": (
        [node("ReduceMean", "img", "x", axes=[1, 2, 3]), node("Expand", "x s", "alpha")],
        {"s": i(1, 4, 1, 5)},
        17,
    ),
    "Tile": one("Tile", "r", {"r": i(1, 2, 1, 3)}),
    "Pad": one("Pad", "p v", {"p": i(0, 0, 1, 2, 0, 0, 3, 4), "v": scalar(0.5)}),
    "Pad-reflect": one("Pad", "p", {"p": i(0, 0, 1, 2, 0, 0, 3, 4)}, mode="reflect"),
    "Pad-edge": one("Pad", "p", {"p": i(0, 0, 1, 2, 0, 0, 3, 4)}, mode="edge"),
    "Pad-channels": one("Pad", "p", {"p": i(0, 1, 0, 2, 0, 2, 0, 0)}),
    "Pad-axes": at(
        18, one("Pad", "p - a", {"p": i(1, 2), "a": i(3)}),
    ),
    "DepthToSpace": (
        [node("Conv", "img w", "x"), node("DepthToSpace", "x", "alpha", blocksize=2)],
        {"w": normal(8, 3, 1, 1)},
        17,
    ),
    "DepthToSpace-CRD": (
        [node("Conv", "img w", "x"), node("DepthToSpace", "x", "alpha", blocksize=2, mode="CRD")],
        {"w": normal(8, 3, 1, 1)},
        17,
    ),
    "SpaceToDepth": one("SpaceToDepth", blocksize=2),
    # Indexing
    "Gather": one("Gather", "k", {"k": i(2, 0, -1)}, axis=1),
    "Gather-one": one("Gather", "k", {"k": np.array(-2, np.int64)}, axis=3),
    "Gather-square": one("Gather", "k", {"k": i(0, 1, 2, 3).reshape(2, 2)}, axis=2),
    "Gather-by-photo": (
        [
            node("ArgMax", "img", "k", axis=1, keepdims=0),
            node("Gather", "table k", "alpha", axis=0),
        ],
        {"table": normal(3, 5)},
        17,
    ),
    "GatherElements": one(
        "GatherElements", "k", {"k": np.array([[[[1], [-1]], [[0], [2]], [[3], [4]]]], np.int64)},
        axis=2,
    ),
    "GatherElements-by-photo": (
        [node("TopK", "img k", "v w", axis=3), node("GatherElements", "img w", "alpha", axis=3)],
        {"k": i(4)},
        17,
    ),
    "GatherND": (
        [
            node("Transpose", "img", "x", perm=[1, 2, 3, 0]),
            node("GatherND", "x k", "y"),
            node("Transpose", "y", "alpha", perm=[1, 0]),
        ],
        {"k": i(0, 1, 2, 2, 7, 11, 1, 0, -1).reshape(3, 3)},
        17,
    ),
    "GatherND-batch": (
        [
            node("Transpose", "img", "x", perm=[0, 2, 3, 1]),
            node("ArgMax", "img", "m", axis=2, keepdims=0),
            node("Reshape", "m s", "k"),
            node("GatherND", "x k", "alpha", batch_dims=1),
        ],
        {"s": i(0, 18, 2)},
        17,
    ),
    "ScatterND": (
        [node("Relu", "img", "x"), node("ScatterND", "x k u", "alpha")],
        {"k": i(0, 0, 0, 2).reshape(2, 2), "u": normal(2, 8, 12)},
        17,
    ),
    "ScatterElements": (
        [
            node("TopK", "img n", "v w", axis=3),
            node("ScatterElements", "img w v", "alpha", axis=3),
        ],
        {"n": i(4)},
        17,
    ),
    # Products
    "MatMul": one("MatMul", "w", {"w": normal(12, 5)}),
    "MatMul-left": ([node("MatMul", "w img", "alpha")], {"w": normal(5, 8)}, 17),
    "MatMul-self": (
        [node("Transpose", "img", "t", perm=[0, 1, 3, 2]), node("MatMul", "img t", "alpha")],
        {},
        17,
    ),
    "Gemm": (
        [
            node("Flatten", "img", "x"),
            node("Gemm", "x w b", "alpha", transB=1, alpha=0.5, beta=2.0),
        ],
        {"w": normal(5, 288), "b": normal(5)},
        17,
    ),
    "Einsum": ([node("Einsum", "img w", "alpha", equation="nchw, cd -> ndhw")],
               {"w": normal(3, 4)}, 17),
    # Sampling
    "Upsample": at(9, one("Upsample", "s", {"s": f(1, 1, 2, 2)})),
    "Upsample-linear": at(9, one("Upsample", "s", {"s": f(1, 1, 2, 3)}, mode="linear")),
    "Resize-10": at(10, one("Resize", "s", {"s": f(1, 1, 2, 2)})),
    "GridSample": (
        [
            node("Conv", "img w", "x"),
            node("Tanh", "x", "t"),
            node("Transpose", "t", "grid", perm=[0, 2, 3, 1]),
            node("GridSample", "img grid", "alpha"),
        ],
        {"w": normal(2, 3, 1, 1)},
        16,
    ),
    "GridSample-border": (
        [
            node("Conv", "img w", "x"),
            node("Transpose", "x", "grid", perm=[0, 2, 3, 1]),
            node("GridSample", "img grid", "alpha", padding_mode="border", align_corners=1),
        ],
        {"w": normal(2, 3, 1, 1)},
        16,
    ),
    "DeformConv": (
        [
            node("Conv", "img o", "offset", pads=[1, 1, 1, 1]),
            node("Conv", "img m", "x", pads=[1, 1, 1, 1]),
            node("Sigmoid", "x", "mask"),
            node("DeformConv", "img w offset b mask", "alpha", pads=[1, 1, 1, 1],
                 kernel_shape=[3, 3]),
        ],
        {
            "o": normal(18, 3, 3, 3) * 0.3, "m": normal(9, 3, 3, 3), "w": normal(4, 3, 3, 3),
            "b": normal(4),
        },
        19,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_the_same_as_onnxruntime(name: str, tmp_path: Path) -> None:
    nodes, weights, opset = CASES[name]
    compare(network(nodes, weights, size=SIZE, opset=opset), tmp_path)


def test_every_supported_operator_is_tested() -> None:
    built = {one.op_type for nodes, _weights, _opset in CASES.values() for one in nodes}
    assert OPERATORS.keys() - built == {"Resize"} - built


def tied(scale: float, after: int) -> bool:
    """Whether a sampled position lies exactly half-way between two pixels or on one. Rounding
    errors then decide.
    """
    places = np.arange(after)
    both = np.concatenate([places / scale, (places + 0.5) / scale]) * 2
    both = both[both > 1e-6]
    return bool((np.abs(both - np.round(both)) < 1e-4).any()) and not float(scale).is_integer()


COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(COORDINATES),
    rounding=st.sampled_from(ROUNDINGS),
    before=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    after=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    scaled=st.booleans(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_resize_in_all_its_modes(
    tmp_path: Path,
    mode: str,
    coordinates: str,
    rounding: str,
    before: tuple[int, int],
    after: tuple[int, int],
    scaled: bool,
) -> None:
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = rounding
    # A quarter of a pixel more, so that the scales differ from the ratio of the sizes.
    scales = f(1, 1, *((b + 0.25) / a for a, b in zip(before, after, strict=True)))
    ratios = scales[2:] if scaled else [b / a for a, b in zip(before, after, strict=True)]
    assume(mode != "nearest" or not any(map(tied, ratios, after)))
    if scaled:
        model = network(
            [node("Resize", "img r s", "alpha", **attributes)],
            {"r": f(), "s": scales},
            size=before,
            opset=13,
        )
    else:
        model = network(
            [node("Resize", "img - - s", "alpha", **attributes)],
            {"s": i(1, 3, *after)},
            size=before,
            opset=13,
        )
    compare(model, tmp_path, size=before, batches=(2,), tolerance=1e-4)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_with_antialiasing(mode: str, tmp_path: Path) -> None:
    nodes = [node("Resize", "img - - s", "alpha", mode=mode, antialias=1)]
    model = network(nodes, {"s": i(1, 3, 3, 5)}, size=SIZE, opset=18)
    compare(model, tmp_path, tolerance=1e-4)


@pytest.mark.parametrize("opset", [11, 13, 15, 17, 18])
def test_a_network_of_every_opset(opset: int, tmp_path: Path) -> None:
    compare(red_matte(opset), tmp_path, size=(32, 48))


def test_nodes_in_any_order(tmp_path: Path) -> None:
    model = red_matte()
    backwards = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(backwards)
    compare(model, tmp_path, size=(32, 48))


def test_everything_that_is_independent_of_the_photo_is_folded(tmp_path: Path) -> None:
    """Shape, Gather, Unsqueeze, Concat, Range, ConstantOfShape and others around a Resize."""
    nodes = [
        node("Shape", "img", "shape"),
        node("Slice", "shape two four", "sides"),
        node("Mul", "sides twos", "large"),
        node("Slice", "shape zero two", "lead"),
        node("Concat", "lead large", "sizes", axis=0),
        node("Resize", "img - - sizes", "up", mode="linear"),
        node("Gather", "shape last", "width", axis=0),
        node("Range", "nought width step", "columns"),
        node("Cast", "columns", "floats", to=onnx.TensorProto.FLOAT),
        node("ConstantOfShape", "sides", "zeros"),
        node("Add", "zeros floats", "ramp"),
        node("MaxPool", "up", "down", kernel_shape=[2, 2], strides=[2, 2]),
        node("Add", "down ramp", "alpha"),
    ]
    weights: Weights = {
        "zero": i(0), "two": i(2), "four": i(4), "twos": i(2, 2), "last": np.array(3, np.int64),
        "nought": np.array(0, np.int64), "step": np.array(1, np.int64),
    }  # fmt: skip
    compare(network(nodes, weights, size=("h", "w")), tmp_path)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Slice", "img z o z", "alpha")],
        [node("Gather", "img z", "alpha", axis=0)],
        [node("Reshape", "img s", "x"), node("ReduceMax", "x", "alpha", axes=[0])],
    ],
)
def test_a_graph_that_depends_on_the_batch_size_is_detected(
    nodes: Sequence[Any], tmp_path: Path
) -> None:
    model = network(nodes, {"z": i(0), "o": i(1), "s": i(3, 8, 12)}, size=SIZE)
    file = tmp_path / "net.onnx"
    onnx.save(model, str(file))
    graph = read_graph(file, SIZE)
    with static_mode():
        if len(nodes) == 1 and graph.nodes and graph.nodes[0].kind == "Gather":
            with pytest.raises(BatchIsFixed):
                Walk(graph).build()
        Walk(graph, free_batch=False).build()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (node("Resize", "img r s", "alpha", coordinate_transformation_mode="tf_crop_and_resize"),
         "tf_crop_and_resize"),
        (node("MaxPool", "img", "alpha", kernel_shape=[2, 2], dilations=[2, 2]), "dilations"),
        (node("Hardmax", "img", "alpha"), "Not known: Hardmax"),
    ],
)  # fmt: skip
def test_an_unsupported_variant_is_refused(bad: Any, message: str, tmp_path: Path) -> None:
    weights = {"r": f(0, 0, 0.1, 0.1, 1, 1, 0.9, 0.9), "s": f(1, 1, 2, 2)}
    file = tmp_path / "net.onnx"
    onnx.save(network([bad], weights, size=SIZE), str(file))
    with static_mode(), pytest.raises(UnsupportedOperatorError, match=message):
        Walk(read_graph(file, SIZE)).build()
