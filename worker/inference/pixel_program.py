"""Makes the program of a model that takes pixels and gives pixels: uint8 RGB [N, H, W, 3] in, uint8
alphas out.

A quarter of the bytes go to the device and come back, and the host neither normalises nor
stretches. The weights stay in the model's own file: operators without weights come before the
network and behind it. Only Paddle's older format (.pdmodel) can be changed like this.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared.errors import EngineUnavailableError
from shared.settings import Settings
from worker.inference.catalog import Model
from worker.inference.paddle_runtime import import_paddle
from worker.inference.postprocess import LEAST_SPAN, POSTPROCESS
from worker.inference.tensorrt import engine_cache, paddle_version
from worker.inference.transforms import ExactTransforms, Normalisation

RULES = 2
"""Raise it when this file makes other programs than before."""

PREFIX = "uint8_pixels"
"""How the names of what is added begin."""

FROM_BYTES, TO_BYTES = f"{PREFIX}_as_numbers", f"{PREFIX}_alphas"
"""The results of the two casts. TensorRT has no uint8, so they stay out of its engines."""

BOOL, FP32, UINT8 = 0, 5, 20
"""Paddle's numbers for types (framework.proto, VarType)."""

TYPES = {BOOL: "bool", FP32: "float32", UINT8: "uint8"}


def pixel_graph(settings: Settings, model: Model) -> Path | None:
    """The file of the program, which may not exist yet; None if the model can't have one."""
    if model.graph.suffix == ".json":
        return None
    rules: list[Callable[..., Any]] = [Normalisation, *POSTPROCESS.values()]
    meaning = [inspect.getsource(one) for one in rules]
    decides = repr((RULES, paddle_version(), LEAST_SPAN, meaning))
    made = hashlib.sha256(decides.encode()).hexdigest()[:12]
    return (
        engine_cache(settings, model) / "pixels" / f"{model.fingerprint}-{made}" / "model.pdmodel"
    )


def write_program(file: Path, model: Model) -> None:
    """Write the program. It imports all of Paddle, which takes seconds.

    Raises EngineUnavailableError if it can't be made of this model.
    """
    import_paddle()
    from paddle.base.framework import Program
    from paddle.pir_utils import OldIrGuard

    with OldIrGuard():
        program = Program.parse_from_string(model.graph.read_bytes())
        _wrap(program, model)
        for operator in program.global_block().ops:
            operator.desc.remove_attr("op_callstack")  # source lines
        file.write_bytes(program.desc.serialize_to_string())


def _wrap(program: Any, model: Model) -> None:
    """Let the program take pixels and give pixels, and as a second answer whether the network's
    answer for each photo consists of numbers, which uint8 can't say.
    """
    block = program.global_block()
    feeds = [one for one in block.ops if one.type == "feed"]
    fetches = [one for one in block.ops if one.type == "fetch"]
    if len(feeds) != 1 or not fetches:
        raise EngineUnavailableError(f"It has {len(feeds)} inputs, and {len(fetches)} answers")
    first_answer = min(fetches, key=lambda one: one.attr("col"))
    [entry], [answer] = feeds[0].output("Out"), first_answer.input("X")
    [store] = first_answer.output("Out")
    count, _, height, width = block.var(entry).shape
    block.create_var(
        name=PREFIX,
        shape=[count, height, width, 3],
        dtype="uint8",
        need_check_feed=True,
        stop_gradient=True,
    )
    first = block.ops.index(feeds[0])
    feeds[0].desc.set_output("Out", [PREFIX])
    normalisation = ExactTransforms(model.transforms).normalisation
    tensor = _normalised(Operators(block, first + 1), normalisation)
    for each in program.blocks:
        for operator in each.ops:
            operator.desc._rename_input(entry, tensor)
    block._remove_var(entry)
    for index in reversed(range(len(block.ops))):
        if block.ops[index].type == "fetch":
            block._remove_op(index)
    behind = Operators(block, len(block.ops))
    rank = len(block.var(answer).shape)
    if rank not in (3, 4):
        raise EngineUnavailableError(f"Its answer has {rank} dimensions, not 3 or 4")
    axes = list(range(1, rank))
    finite = behind.add("isfinite_v2", answer, kind=BOOL)
    finite = behind.add("reduce_all", finite, kind=BOOL, dim=axes)
    for step in model.postprocess:
        answer = EXPRESSED[step](behind, answer, axes)
    answer = behind.add("clip", answer, min=0.0, max=1.0)
    answer = behind.add("scale", answer, scale=255.0, bias=0.5)  # the cast rounds down
    answer = behind.add("cast", answer, kind=UINT8, called=TO_BYTES, in_dtype=FP32, out_dtype=UINT8)
    for column, name in enumerate((answer, finite)):
        block.append_op(
            type="fetch", inputs={"X": [name]}, outputs={"Out": [store]}, attrs={"col": column}
        )


class Operators:
    """Inserts operators of Paddle's older format into a block, one behind the other."""

    def __init__(self, block: Any, at: int) -> None:
        self._block, self._at = block, at

    def add(
        self,
        name: str,
        x: str,
        y: str = "",
        *,
        kind: int = FP32,
        called: str = "",
        **attributes: Any,
    ) -> str:
        """Insert one; returns the name of its result, which has this type. `called`: that name."""
        inputs = {"X": [x], **({"Y": [y]} if y else {})}
        return self._insert(name, inputs, kind, attributes, called)

    def constant(self, values: Sequence[float]) -> str:
        """A vector of fp32 numbers; returns its name."""
        attributes = {"shape": [len(values)], "dtype": FP32, "values": [*map(float, values)]}
        return self._insert("assign_value", {}, FP32, attributes)

    def _insert(
        self,
        name: str,
        inputs: dict[str, list[str]],
        kind: int,
        attributes: dict[str, Any],
        called: str = "",
    ) -> str:
        results = ["Out", "XShape"] if name == "transpose2" else ["Out"]
        outputs = {one: [f"{PREFIX}_{self._at}_{name}_{one}"] for one in results}
        if called:
            outputs["Out"] = [called]
        for result in outputs.values():
            self._block.create_var(name=result[0], dtype=TYPES[kind], stop_gradient=True)
        self._block._insert_op(
            self._at, type=name, inputs=inputs, outputs=outputs, attrs=attributes
        )
        self._at += 1
        return outputs["Out"][0]


def _normalised(before: Operators, normalisation: Normalisation) -> str:
    """What Normalisation.apply does."""
    x = before.add("cast", PREFIX, called=FROM_BYTES, in_dtype=UINT8, out_dtype=FP32)
    whole = 255.0
    if normalisation.divide_by_max:
        most = before.add("reduce_max", x, dim=[1, 2, 3], keep_dim=True)
        most = before.add("clip", most, min=1.0, max=255.0)
        x, whole = before.add("elementwise_div", x, most), 1.0
    gain = before.constant([1 / (whole * std) for std in normalisation.std])
    shift = [mean / std for mean, std in zip(normalisation.mean, normalisation.std, strict=True)]
    x = before.add("elementwise_mul", x, gain)
    x = before.add("elementwise_sub", x, before.constant(shift))
    return before.add("transpose2", x, axis=[0, 3, 1, 2])


def _sigmoid(behind: Operators, answer: str, _axes: Sequence[int]) -> str:
    return behind.add("sigmoid", answer)


def _stretch(behind: Operators, answer: str, axes: Sequence[int]) -> str:
    """What postprocess.stretch does; a choice between two numbers is a sum of products here."""
    least = behind.add("reduce_min", answer, dim=axes, keep_dim=True)
    most = behind.add("reduce_max", answer, dim=axes, keep_dim=True)
    span = behind.add("elementwise_sub", most, least)
    wide = behind.add("greater_equal", span, behind.constant([LEAST_SPAN]), kind=BOOL)
    wide = behind.add("cast", wide, in_dtype=BOOL, out_dtype=FP32)
    narrow = behind.add("scale", wide, scale=-1.0, bias=1.0)
    span = behind.add("elementwise_add", behind.add("elementwise_mul", span, wide), narrow)
    return behind.add("elementwise_div", behind.add("elementwise_sub", answer, least), span)


EXPRESSED: dict[str, Callable[[Operators, str, Sequence[int]], str]] = {
    "Sigmoid": _sigmoid,
    "Stretch": _stretch,
}
"""The steps of `Deploy.postprocess` as operators."""
