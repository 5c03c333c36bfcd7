"""Operators that apply to each number by itself: arithmetic, activations, rounding, casts."""

from typing import Any

import numpy as np

from worker.inference.importing.walk import Step, operator

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float32",  # the graph was converted to fp32
    11: "float32",  # no network here needs doubles
}
"""ONNX's TensorProto.DataType → Paddle's name."""

PLAIN = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Reciprocal": "reciprocal",
    "Sign": "sign",
    "Sin": "sin",
    "Sigmoid": "sigmoid",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}
"""ONNX operator → Paddle operator with the same meaning."""

ACTIVATIONS = {
    "Relu": "relu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Mish": "mish",
}
"""ONNX operator → function of paddle.nn.functional."""

BINARY = {
    "Add": "elementwise_add",
    "Sub": "elementwise_sub",
    "Mul": "elementwise_mul",
    "Div": "elementwise_div",
    "Pow": "elementwise_pow",
    "Max": "elementwise_max",
    "Min": "elementwise_min",
    "Sum": "elementwise_add",
    "Mean": "elementwise_add",
}
"""ONNX operator → Paddle operator, which broadcasts like numpy with axis -1."""


@operator(*PLAIN)
def plain(step: Step) -> Any:
    """A function of one input without parameters."""
    return step.walk.emit(PLAIN[step.kind], {"X": step.variable(0)})


@operator("Neg")
def negative(step: Step) -> Any:
    """-x."""
    import paddle

    return paddle.scale(step.variable(0), -1.0)


@operator(*ACTIVATIONS)
def activation(step: Step) -> Any:
    """An activation without parameters."""
    import paddle.nn.functional as nnf

    return getattr(nnf, ACTIVATIONS[step.kind])(step.variable(0))


@operator("Identity", "Dropout")
def identity(step: Step) -> Any:
    """Operators that do nothing at inference."""
    return step.value(0)


@operator("LeakyRelu")
def leaky_relu(step: Step) -> Any:
    """x, and alpha · x for x < 0."""
    import paddle.nn.functional as nnf

    return nnf.leaky_relu(step.variable(0), step.attribute("alpha", 0.01))


@operator("Elu")
def elu(step: Step) -> Any:
    """x, and alpha · (exp(x) - 1) for x < 0."""
    import paddle.nn.functional as nnf

    return nnf.elu(step.variable(0), step.attribute("alpha", 1.0))


@operator("Selu")
def selu(step: Step) -> Any:
    """Gamma · elu(x)."""
    import paddle.nn.functional as nnf

    alpha = step.attribute("alpha", 1.6732632)
    return nnf.selu(step.variable(0), step.attribute("gamma", 1.0507010), alpha)


@operator("HardSigmoid")
def hard_sigmoid(step: Step) -> Any:
    """clip(alpha · x + beta, 0, 1)."""
    import paddle

    slope, offset = step.attribute("alpha", 0.2), step.attribute("beta", 0.5)
    return paddle.clip(paddle.scale(step.variable(0), slope, offset), 0.0, 1.0)


@operator("HardSwish")
def hard_swish(step: Step) -> Any:
    """X · clip(x / 6 + 0.5, 0, 1)."""
    import paddle.nn.functional as nnf

    return nnf.hardswish(step.variable(0))


@operator("Gelu")
def gelu(step: Step) -> Any:
    """X · Φ(x), exact or with the tanh approximation."""
    import paddle.nn.functional as nnf

    return nnf.gelu(step.variable(0), step.attribute("approximate", "none") == "tanh")


@operator("PRelu")
def prelu(step: Step) -> Any:
    """x, and slope · x for x < 0. The slope is one number, one per channel, or any array that
    broadcasts.
    """
    import paddle.nn.functional as nnf

    x, slope = step.variable(0), step.value(1)
    channels = step.shape(0)[1] if len(step.shape(0)) > 1 else 1
    if isinstance(slope, np.ndarray) and slope.size in (1, channels):
        each = slope.size == 1 or slope.shape[-len(step.shape(0)) + 1 :][0] == channels
        if each:
            return nnf.prelu(x, step.walk.variable(slope.reshape(-1)))
    below = nnf.relu(-x)
    return nnf.relu(x) - step.walk.multiply(below, step.variable(1))


@operator("Clip")
def clip(step: Step) -> Any:
    """Limit to two bounds. They are attributes before opset 11 and inputs since then."""
    import paddle
    import paddle.nn.functional as nnf

    low = float(step.constant(1).item()) if step.has(1) else step.attribute("min")
    high = float(step.constant(2).item()) if step.has(2) else step.attribute("max")
    x = step.variable(0)
    if (low, high) == (0.0, 6.0):
        return nnf.relu6(x)
    return paddle.clip(x, low, high)


@operator("Add", "Sub", "Mul", "Div", "Pow")
def binary(step: Step) -> Any:
    """Arithmetic with two tensors, or with a tensor and a number."""
    import paddle

    if step.kind == "Pow":
        exponent = step.value(1)
        if isinstance(exponent, np.ndarray) and exponent.size == 1:
            return _power(step, float(exponent.item()))
    scaled = _with_number(step)
    if scaled is not None:
        return scaled
    a, b = step.variable(0), step.variable(1)
    a, b = step.walk.for_each_photo(a, b), step.walk.for_each_photo(b, a)
    if step.kind == "Div" and "int" in str(a.dtype):
        quotient = paddle.divide(a.astype("float32"), b.astype("float32"))
        return paddle.trunc(quotient).astype(a.dtype)
    return step.walk.emit(BINARY[step.kind], {"X": a, "Y": b}, axis=-1)


def _power(step: Step, exponent: float) -> Any:
    import paddle

    x = step.variable(0)
    if exponent == 2:
        return step.walk.multiply(x, x)
    if exponent == 0.5:
        return step.walk.sqrt(x)
    return paddle.pow(x, exponent)


def _with_number(step: Step) -> Any:
    """Compute x + c, x · c and the like by Paddle's `scale`, which fuses unlike a broadcast."""
    import paddle

    for at, other in ((1, 0), (0, 1)):
        number = step.value(at)
        if not isinstance(number, np.ndarray) or number.size != 1:
            continue
        if number.ndim > len(step.shape(other)) or number.dtype.kind != "f":
            continue
        x, c = step.variable(other), float(number.item())
        if step.kind == "Add":
            return paddle.scale(x, 1.0, c)
        if step.kind == "Mul":
            return paddle.scale(x, c)
        if step.kind == "Sub":
            return paddle.scale(x, 1.0, -c) if at == 1 else paddle.scale(x, -1.0, c)
        if step.kind == "Div" and at == 1 and c != 0:
            return paddle.scale(x, 1 / c)
    return None


@operator("Mod")
def mod(step: Step) -> Any:
    """The remainder, with the divisor's sign or (fmod) with the dividend's."""
    import paddle

    a, b = step.variable(0), step.variable(1)
    if not step.attribute("fmod", 0):
        return paddle.remainder(a, b)
    rest = paddle.remainder(paddle.abs(a), paddle.abs(b))
    return step.walk.multiply(rest, step.walk.emit("sign", {"X": a}))


@operator("Round")
def round_half_even(step: Step) -> Any:
    """Round to the nearest integer, halves to the even one. Paddle's own operator rounds halves
    away from zero.
    """
    import paddle

    x = paddle.scale(step.variable(0), 1.0, 0.5)
    up = step.walk.emit("floor", {"X": x})
    tie = paddle.equal(x, up).astype("float32")
    odd = paddle.remainder(up, paddle.full_like(up, 2.0))
    return paddle.subtract(up, step.walk.multiply(tie, odd))


@operator("Sum", "Max", "Min", "Mean")
def several(step: Step) -> Any:
    """Combine any number of tensors: sum, mean, minimum or maximum."""
    import paddle

    total = step.variable(0)
    for index in range(1, len(step)):
        total = step.walk.emit(BINARY[step.kind], {"X": total, "Y": step.variable(index)}, axis=-1)
    return paddle.scale(total, 1 / len(step)) if step.kind == "Mean" else total


@operator("Cast")
def cast(step: Step) -> Any:
    """Convert to another type. Doubles and fp16 become fp32."""
    import paddle

    target = step.attribute("to")
    if target not in DTYPES:
        raise step.unsupported(f"to ONNX's type {target}")
    x = step.variable(0)
    name = DTYPES[target]
    return x if str(x.dtype).endswith(name) else paddle.cast(x, name)
