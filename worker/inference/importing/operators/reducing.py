"""Operators that reduce axes: sums, means, extremes and the like."""

from typing import Any

from worker.inference.importing.walk import Step, operator

REDUCTIONS = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
}

EXTREMES = {"ArgMax": "argmax", "ArgMin": "argmin"}


def _axes(step: Step) -> list[int] | None:
    """The axes to reduce. Returns None for all axes, and [] for none (noop_with_empty_axes)."""
    axes = step.numbers("axes", 1)
    if axes:
        return [axis % len(step.shape(0)) for axis in axes]
    return [] if step.attribute("noop_with_empty_axes", 0) else None


@operator(*REDUCTIONS)
def reduced(step: Step) -> Any:
    """Reduce with one of Paddle's own operators."""
    import paddle

    axes = _axes(step)
    if axes == []:
        return step.value(0)
    keep = bool(step.attribute("keepdims", 1))
    return getattr(paddle, REDUCTIONS[step.kind])(step.variable(0), axis=axes, keepdim=keep)


@operator("ReduceL1", "ReduceL2", "ReduceSumSquare")
def norm(step: Step) -> Any:
    """Sums of absolute values or of squares."""
    import paddle

    x = step.variable(0)
    inner = paddle.abs(x) if step.kind == "ReduceL1" else step.walk.multiply(x, x)
    axes = _axes(step)
    if axes != []:
        inner = paddle.sum(inner, axis=axes, keepdim=bool(step.attribute("keepdims", 1)))
    return step.walk.sqrt(inner) if step.kind == "ReduceL2" else inner


@operator("ReduceLogSumExp")
def log_sum_exp(step: Step) -> Any:
    """log(sum(exp(x))), computed relative to the maximum to avoid overflow."""
    import paddle

    axes, x = _axes(step), step.variable(0)
    if axes == []:
        return x
    most = paddle.max(x, axis=axes, keepdim=True)
    total = paddle.sum(paddle.exp(paddle.subtract(x, most)), axis=axes, keepdim=True)
    answer = paddle.add(step.walk.emit("log", {"X": total}), most)
    if step.attribute("keepdims", 1):
        return answer
    return paddle.squeeze(answer, axes if axes is not None else list(range(len(step.shape(0)))))


@operator(*EXTREMES)
def extreme(step: Step) -> Any:
    """The index of the maximum or minimum; the first one if there are several."""
    import paddle

    if step.attribute("select_last_index", 0):
        raise step.unsupported("the last of equals")
    keep = bool(step.attribute("keepdims", 1))
    axis = step.attribute("axis", 0)
    return getattr(paddle, EXTREMES[step.kind])(step.variable(0), axis=axis, keepdim=keep)


@operator("TopK")
def top_k(step: Step) -> Any:
    """The k largest or smallest numbers along an axis, and their indices."""
    import paddle

    k = int(step.constant(1).item()) if step.has(1) else step.attribute("k")
    values, indices = paddle.topk(
        step.variable(0),
        k,
        axis=step.attribute("axis", -1),
        largest=bool(step.attribute("largest", 1)),
        sorted=True,
    )
    return [values, indices]
