"""Builds a Paddle program from the nodes of a graph.

The program has Paddle's older format (model.pdmodel), because oneDNN in Paddle 3.2.2 fails on
several operators of the newer one. The graph's shapes are those of one photo. In the program the
batch size is free (-1).
"""

import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import UnsupportedOperatorError
from worker.inference.importing.graph import Array, Graph, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

Handler = Callable[["Step"], Any]
"""Builds one node. Returns a variable or a constant; a list of them if the node has several
outputs.
"""

OPERATORS: dict[str, Handler] = {}
"""The handler of each ONNX operator. The modules of `operators` fill this table."""


def operator(*kinds: str) -> Callable[[Handler], Handler]:
    """Register a handler for these ONNX operators."""

    def enter(handler: Handler) -> Handler:
        for kind in kinds:
            OPERATORS[kind] = handler
        return handler

    return enter


class BatchIsFixed(Exception):
    """A node mixes the photos of a batch or depends on their number, so the network takes one photo
    at a time.
    """


class Step:
    """The node that is being built: its inputs, attributes and shapes."""

    def __init__(self, walk: "Walk", node: Node) -> None:
        self.walk, self.node, self.kind = walk, node, node.kind
        self.opset = walk.graph.opset

    def __len__(self) -> int:
        return len(self.node.inputs)

    def has(self, index: int) -> bool:
        """Whether the node has this input."""
        return index < len(self.node.inputs) and self.node.inputs[index] != ""

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node, or the default."""
        return self.node.attributes.get(name, default)

    def value(self, index: int) -> Any:
        """The input: a Paddle variable or a constant array."""
        return self.walk.values[self.node.inputs[index]]

    def variable(self, index: int) -> Any:
        """The input as a Paddle variable. A constant becomes a weight."""
        return self.walk.variable(self.value(index))

    def constant(self, index: int) -> Array:
        """The input as a constant array. Raises UnsupportedOperatorError if it depends on the
        photo.
        """
        value = self.value(index)
        if not isinstance(value, np.ndarray):
            raise self.unsupported(f"its input {index} depends on the photo")
        return value

    def numbers(self, name: str, index: int) -> list[int] | None:
        """Integers that are an attribute in older opsets and an input in newer ones."""
        if self.has(index):
            return [int(one) for one in self.constant(index).reshape(-1)]
        given = self.attribute(name)
        return None if given is None else [int(one) for one in given]

    def shape(self, index: int) -> tuple[int, ...]:
        """The input's shape for a batch of one."""
        return self.walk.shape(self.node.inputs[index])

    def shape_out(self, index: int = 0) -> tuple[int, ...]:
        """The output's shape for a batch of one."""
        return self.walk.shape(self.node.outputs[index])

    def unsupported(self, why: str) -> UnsupportedOperatorError:
        """The error for a variant of the operator that no handler supports."""
        name = f" ({self.node.name})" if self.node.name else ""
        return UnsupportedOperatorError(f"{self.kind}{name}: {why}")


class Walk:
    """Builds one Paddle program."""

    def __init__(self, graph: Graph, *, free_batch: bool = True) -> None:
        """`free_batch`: whether the program takes batches of any size, or one photo at a time."""
        self.graph = graph
        self.batch = -1 if free_batch else 1
        self.values: dict[str, Any] = dict(graph.constants)
        self.weights: dict[str, Array] = {}
        self._made: dict[tuple[Any, ...], Any] = {}
        self._block: Any = None

    def build(self) -> tuple[Any, Any, Any]:
        """Build the program. Returns it with its input `img` [N, 3, H, W] and its answer [N, …].

        Must be called in static mode. Raises UnsupportedOperatorError, and BatchIsFixed with
        `free_batch`.
        """
        import paddle

        unknown = sorted({node.kind for node in self.graph.nodes} - OPERATORS.keys())
        if unknown:
            raise UnsupportedOperatorError(f"Not known: {', '.join(unknown)}")
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()):
            self._block = program.global_block()
            shape = [self.batch, 3, *self.graph.size]
            entry = paddle.static.data("img", shape, "float32")
            self.values[self.graph.input] = entry
            for node in self.graph.nodes:
                made = OPERATORS[node.kind](Step(self, node))
                made = made if isinstance(made, list) else [made]
                self.values |= dict(zip(node.outputs, made, strict=False))
        return program, entry, self.values[self.graph.output]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor for a batch of one."""
        known = self.graph.shapes.get(name)
        if known is None:
            value = self.values.get(name)
            if value is None or sum(side == -1 for side in value.shape) > 1:
                raise UnsupportedOperatorError(f"The shape of {name} depends on the photo")
            known = tuple(1 if side == -1 else side for side in value.shape)
        return known

    def variable(self, value: Any) -> Any:
        """Convert a value to a Paddle variable. Equal constant arrays become one weight."""
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        key = (value.shape, value.dtype.str, value.tobytes())
        if key not in self._made:
            name = f"w_{len(self.weights)}"
            self.weights[name] = value
            self._made[key] = self._block.create_var(
                name=name,
                shape=list(value.shape),
                dtype=str(value.dtype),
                persistable=True,
                stop_gradient=True,
            )
        return self._made[key]

    def emit(self, kind: str, inputs: dict[str, Any], dtype: str = "", **attributes: Any) -> Any:
        """Add one operator of Paddle's older format by its name. Returns the variable of its output
        `Out`.

        In Paddle 3.2 `paddle.matmul`, `paddle.sqrt` and thirty other functions build only the newer
        format.
        """
        first = next(iter(inputs.values()))
        out = self._block.create_var(
            name=f"t_{len(self._block.vars)}", dtype=dtype or first.dtype, stop_gradient=True
        )
        self._block.append_op(
            type=kind,
            inputs={name: [one] for name, one in inputs.items()},
            outputs={"Out": [out]},
            attrs=attributes,
        )
        return out

    def multiply(self, x: Any, y: Any) -> Any:
        """X · y."""
        return self.emit("elementwise_mul", {"X": x, "Y": y}, axis=-1)

    def matmul(self, x: Any, y: Any, *, turn_x: bool = False, turn_y: bool = False) -> Any:
        """Matrix product like numpy's matmul. `turn_x` and `turn_y` transpose an input first."""
        return self.emit("matmul_v2", {"X": x, "Y": y}, trans_x=turn_x, trans_y=turn_y)

    def sqrt(self, x: Any) -> Any:
        """√x."""
        return self.emit("sqrt", {"X": x})

    def for_each_photo(self, x: Any, like: Any) -> Any:
        """Repeat a constant for each photo, if `like` has k entries per photo and the constant has
        k in all.

        Swin's masks are such constants: [windows, …] beside [batch · windows, …].
        """
        import paddle

        batch = self.batch_axis(like)
        if batch is None or self.batch_axis(x) is not None:
            return x
        at = batch - len(like.shape) + len(x.shape)
        if at < 0 or x.shape[at] == 1:
            return x  # numpy's broadcasting is enough
        counts: list[Any] = [1] * len(x.shape)
        counts[at] = paddle.floor_divide(
            paddle.shape(like)[batch], paddle.full([], x.shape[at], "int32")
        )
        return paddle.tile(x, counts)

    def batch_axis(self, value: Any) -> int | None:
        """The axis that holds the batch. None for a constant or a program for one photo."""
        if isinstance(value, np.ndarray):
            return None
        free = [axis for axis, side in enumerate(value.shape) if side == -1]
        if len(free) > 1:
            raise BatchIsFixed(f"{value.shape} has more free sides than the batch")
        return free[0] if free else None


@contextmanager
def static_mode() -> "Iterator[None]":
    """Switch Paddle to static mode and its older program format. Restore the mode afterwards."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle reads it at the first import
    with warnings.catch_warnings():
        # Paddle warns about a missing compiler cache that we don't use.
        warnings.filterwarnings("ignore", "No ccache found")
        import paddle
        from paddle.pir_utils import OldIrGuard

    was_dynamic = paddle.in_dynamic_mode()
    with OldIrGuard():
        paddle.enable_static()
        try:
            yield
        finally:
            if was_dynamic:
                paddle.disable_static()
