"""Normalisation layers and softmax."""

from typing import Any

import numpy as np

from worker.inference.importing.operators.reshaping import reshaped
from worker.inference.importing.walk import Step, operator


@operator("BatchNormalization")
def batch_norm(step: Step) -> Any:
    """Normalise with stored statistics. Only for batch norms that were not folded: one factor and
    one offset per channel.
    """
    import paddle
    import paddle.nn.functional as nnf

    scale, offset, mean, variance = (step.constant(index) for index in range(1, 5))
    shape = [-1, *[1] * (len(step.shape(0)) - 2)]
    if len(shape) == 3:
        names = [step.walk.variable(one) for one in (mean, variance, scale, offset)]
        return nnf.batch_norm(step.variable(0), *names, epsilon=step.attribute("epsilon", 1e-5))
    factor = scale / np.sqrt(variance + step.attribute("epsilon", 1e-5))
    scaled = step.walk.multiply(step.variable(0), _weight(step, factor.reshape(shape)))
    return paddle.add(scaled, _weight(step, (offset - mean * factor).reshape(shape)))


@operator("InstanceNormalization")
def instance_norm(step: Step) -> Any:
    """Normalise each channel of each photo with its own mean and variance."""
    import paddle.nn.functional as nnf

    if len(step.shape(0)) != 4:
        raise step.unsupported(f"on {len(step.shape(0))} dimensions")
    return nnf.instance_norm(
        step.variable(0),
        weight=step.variable(1),
        bias=step.variable(2),
        eps=step.attribute("epsilon", 1e-5),
    )


@operator("LayerNormalization")
def layer_norm(step: Step) -> Any:
    """Normalise each position over the axes from `axis` on."""
    import paddle.nn.functional as nnf

    if len([name for name in step.node.outputs if name]) > 1:
        raise step.unsupported("with the mean as an output")
    shape = step.shape(0)
    over = shape[step.attribute("axis", -1) % len(shape) :]
    return nnf.layer_norm(
        step.variable(0),
        list(over),
        weight=_flat(step, 1, over),
        bias=_flat(step, 2, over) if step.has(2) else None,
        epsilon=step.attribute("epsilon", 1e-5),
    )


def _flat(step: Step, index: int, over: tuple[int, ...]) -> Any:
    array = np.broadcast_to(step.constant(index), over)
    return step.walk.variable(np.ascontiguousarray(array.reshape(-1)))


@operator("GroupNormalization")
def group_norm(step: Step) -> Any:
    """Normalise each group of channels of each photo. Before opset 21 scale and offset are per
    group.
    """
    import paddle.nn.functional as nnf

    groups, channels = step.attribute("num_groups"), step.shape(0)[1]
    weights = []
    for index in (1, 2):
        array = step.constant(index)
        if array.size != channels:
            array = np.repeat(array, channels // groups)
        weights.append(step.walk.variable(array))
    return nnf.group_norm(
        step.variable(0),
        groups,
        epsilon=step.attribute("epsilon", 1e-5),
        weight=weights[0],
        bias=weights[1],
    )


@operator("LpNormalization")
def lp_norm(step: Step) -> Any:
    """Divide by the norm along an axis."""
    import paddle

    x, axis = step.variable(0), step.attribute("axis", -1)
    if step.attribute("p", 2) == 1:
        length = paddle.sum(paddle.abs(x), axis=axis, keepdim=True)
    else:
        length = step.walk.sqrt(paddle.sum(step.walk.multiply(x, x), axis=axis, keepdim=True))
    return paddle.divide(x, length)


@operator("Softmax", "LogSoftmax")
def softmax(step: Step) -> Any:
    """Softmax along an axis. Before opset 13 over all following axes too."""
    import paddle.nn.functional as nnf

    function = nnf.softmax if step.kind == "Softmax" else nnf.log_softmax
    shape = step.shape(0)
    axis = step.attribute("axis", -1 if step.opset >= 13 else 1) % len(shape)
    if step.opset >= 13 or axis == len(shape) - 1:
        return function(step.variable(0), axis=axis)
    flat = [*shape[:axis], int(np.prod(shape[axis:]))]
    x = reshaped(step.walk, step.variable(0), shape, flat)
    return reshaped(step.walk, function(x, axis=-1), tuple(flat), list(shape))


def _weight(step: Step, array: Any) -> Any:
    return step.walk.variable(array.astype(np.float32))
