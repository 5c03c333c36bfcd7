"""Reads an ONNX file into a graph with known shapes, in fp32, with folded constants, in order.

onnxruntime's basic optimiser computes everything that does not depend on the photo (shapes, slices
of constants, batch norms before convolutions) and removes nodes that do nothing. It needs fixed
shapes for that. Later `walk` frees the batch size again. The check needs onnxruntime anyway, and it
reads every opset.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadOnnxError, ImportingUnavailableError

OLDEST_OPSET, NEWEST_OPSET = 9, 22
"""The handlers implement ONNX's operator definitions of these versions."""

Array = NDArray[Any]


@dataclass
class Node:
    """One operator and the names of its input and output tensors ("" for an omitted input)."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """A folded network with one input, a photo [1, 3, H, W] float32, and one output."""

    nodes: list[Node]
    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    """Shapes of all tensors for a batch of one."""
    input: str
    output: str
    size: tuple[int, int]
    opset: int
    half: bool
    """Whether the file's weights are fp16."""


def read_graph(path: Path, size: tuple[int, int], output: str | None = None) -> Graph:
    """Read and fold the network in `path` for photos of `size` (height, width).

    `output` names the answer to keep; None keeps the first. Raises BadOnnxError if the file holds
    no such network, and ImportingUnavailableError if the extra is not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ImportingUnavailableError(f"{error.name} is not installed") from error
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf and onnx raise several classes of their own
        raise BadOnnxError(f"{path.name} can't be read: {_last_line(error)}") from error
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise BadOnnxError(
            f"{path.name} has opset {opset}; read are {OLDEST_OPSET} to {NEWEST_OPSET}"
        )
    entry = _fix_input(model, size, path.name)
    kept = _keep_output(model, output, path.name)
    half = _widen(model)
    folded = _fold(model, path.name)
    if any(node.op_type == "Shape" for node in folded.graph.node):
        # onnxruntime replaced an operator by several, and these can be folded
        folded = _fold(folded, path.name)
    nodes = ordered([_read_node(one) for one in folded.graph.node], kept)
    _put_in_order(folded, nodes)  # shape inference needs this order
    inferred = onnx.shape_inference.infer_shapes(folded, data_prop=True)
    shapes = {}
    for info in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = info.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[info.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    constants = {one.name: numpy_helper.to_array(one) for one in folded.graph.initializer}
    shapes |= {name: array.shape for name, array in constants.items()}
    return Graph(nodes, constants, shapes, entry, kept, size, opset, half)


def ordered(nodes: Sequence[Node], output: str) -> list[Node]:
    """The nodes that `output` depends on, each after the nodes whose outputs it reads.

    A file may list nodes in any order. Raises BadOnnxError if the graph has a cycle.
    """
    maker = {name: node for node in nodes for name in node.outputs if name}
    done: list[Node] = []
    state: dict[int, str] = {}
    stack = [maker[output]] if output in maker else []
    while stack:
        node = stack[-1]
        if state.get(id(node)) == "done":
            stack.pop()
            continue
        state[id(node)] = "open"
        missing = [
            maker[name]
            for name in node.inputs
            if name in maker and state.get(id(maker[name])) != "done"
        ]
        if any(state.get(id(one)) == "open" for one in missing):
            raise BadOnnxError(f"The node {node.name or node.kind} depends on its own output")
        if missing:
            stack.extend(missing)
            continue
        state[id(node)] = "done"
        done.append(node)
        stack.pop()
    return done


def _fix_input(model: Any, size: tuple[int, int], file: str) -> str:
    """Set the shape of the only input [N, 3, H, W] and return the input's name."""
    from onnx import TensorProto

    graph = model.graph
    weights = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    if len(inputs) != 1:
        raise BadOnnxError(f"{file} takes {len(inputs)} inputs; a matte takes one photo")
    (entry,) = inputs
    tensor = entry.type.tensor_type
    shape = (1, 3, *size)
    own = [dim.dim_value for dim in tensor.shape.dim]
    if len(own) != 4 or own[1] not in (0, 3):
        raise BadOnnxError(f"{file} takes an input of shape {own}; a photo is [N, 3, H, W]")
    if any(side and side != wanted for side, wanted in zip(own[2:], size, strict=True)):
        raise BadOnnxError(f"{file} takes photos of {own[2]}×{own[3]} only: pass that as --size")
    if tensor.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise BadOnnxError(f"{file} takes an input that is neither fp32 nor fp16")
    for dim, value in zip(tensor.shape.dim, shape, strict=True):
        dim.dim_value = value
    name: str = entry.name
    return name


def _keep_output(model: Any, wanted: str | None, file: str) -> str:
    """Remove all outputs but one. Many networks also return the results of inner stages."""
    outputs = [one.name for one in model.graph.output]
    kept = wanted or (outputs or [""])[0]
    if kept not in outputs:
        raise BadOnnxError(f"{file} has no output {kept!r}; there are {', '.join(outputs)}")
    info = next(one for one in model.graph.output if one.name == kept)
    # it may be wrong or for another batch, so it is inferred again
    info.type.tensor_type.ClearField("shape")
    answer = info.SerializeToString()
    del model.graph.output[:]
    model.graph.output.add().ParseFromString(answer)
    del model.graph.value_info[:]
    name: str = kept
    return name


def _widen(model: Any) -> bool:
    """Convert all fp16 tensors, constants and casts to fp32, in subgraphs too. Returns whether
    there were any.
    """
    from onnx import AttributeProto, TensorProto, numpy_helper

    half = False

    def widened(tensor: Any) -> bool:
        if tensor.data_type != TensorProto.FLOAT16:
            return False
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return True

    def graph_of(graph: Any) -> None:
        nonlocal half
        for tensor in graph.initializer:
            half |= widened(tensor)
        for info in (*graph.input, *graph.output):
            if info.type.tensor_type.elem_type == TensorProto.FLOAT16:
                info.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    half |= widened(attribute.t)
                elif attribute.type == AttributeProto.GRAPH:
                    graph_of(attribute.g)
                elif attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.FLOAT

    graph_of(model.graph)
    return half


def _fold(model: Any, file: str) -> Any:
    """Run onnxruntime's basic optimiser on the model. Raises BadOnnxError."""
    try:
        import onnx
        import onnxruntime as ort
    except ImportError as error:
        raise ImportingUnavailableError(f"{error.name} is not installed") from error
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4  # it warns about wrong shapes in files
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(target)
        source = Path(folder) / "fixed.onnx"
        onnx.save(model, str(source), save_as_external_data=True, location="fixed.bin")
        try:
            ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has one exception class per status
            raise BadOnnxError(f"onnxruntime refuses {file}: {_last_line(error)}") from error
        return onnx.load(str(target))


def _put_in_order(model: Any, nodes: Sequence[Node]) -> None:
    """Keep only these nodes, in this order."""
    protos = {tuple(one.output): one for one in model.graph.node}
    wanted = [protos[tuple(node.outputs)] for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(wanted)


def _read_node(proto: Any) -> Node:
    from onnx import helper

    attributes = {one.name: _plain(helper.get_attribute_value(one)) for one in proto.attribute}
    kind = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    return Node(kind, proto.name, list(proto.input), list(proto.output), attributes)


def _plain(value: Any) -> Any:
    from onnx import TensorProto, numpy_helper

    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return (
        list(value)
        if isinstance(value, Iterator | Sequence) and not isinstance(value, str)
        else value
    )


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[-1]
