"""Operators that read or write numbers at given indices."""

from math import prod
from typing import Any

import numpy as np

from worker.inference.importing.operators.reshaping import reshaped
from worker.inference.importing.walk import BatchIsFixed, Step, operator


@operator("Gather")
def gather(step: Step) -> Any:
    """Take slices along an axis. In the result, the shape of the indices replaces the axis."""
    import paddle

    shape = step.shape(0)
    axis = step.attribute("axis", 0) % len(shape)
    x, indices = step.variable(0), step.value(1)
    if axis == step.walk.batch_axis(x):
        raise BatchIsFixed("photos are picked out of the batch")
    if isinstance(indices, np.ndarray):
        indices = indices.astype(np.int64) % shape[axis]  # negative indices count from the end
        if indices.size == 1:
            at = int(indices.item())
            part = paddle.slice(x, [axis], [at], [at + 1])
            kept = [*shape[:axis], *indices.shape, *shape[axis + 1 :]]
            return reshaped(step.walk, part, (*shape[:axis], 1, *shape[axis + 1 :]), kept)
        picked = paddle.index_select(x, step.walk.variable(indices.reshape(-1)), axis)
        if indices.ndim == 1:
            return picked
        flat = (*shape[:axis], indices.size, *shape[axis + 1 :])
        return reshaped(step.walk, picked, flat, list(step.shape_out()))
    if step.walk.batch_axis(indices) is not None and step.walk.batch_axis(x) is not None:
        raise BatchIsFixed("every photo picks from all")
    picked = paddle.gather(x, paddle.reshape(_from_start(indices, shape[axis]), [-1]), axis)
    return paddle.reshape(picked, _with_batch(step, indices, axis))


def _with_batch(step: Step, indices: Any, axis: int) -> list[int]:
    target = list(step.shape_out())
    batch = step.walk.batch_axis(indices)
    if batch is not None:
        target[axis + batch] = -1
    return target


def _from_start(indices: Any, side: int) -> Any:
    """Replace negative indices, which count from the end, by positive ones."""
    import paddle

    back = paddle.scale(paddle.cast(paddle.less_than(indices, paddle.zeros_like(indices)),
                                    indices.dtype), float(side))  # fmt: skip
    return paddle.add(indices, back)


@operator("GatherElements")
def gather_elements(step: Step) -> Any:
    """Take one number for each index, along an axis."""
    import paddle

    shape = step.shape(0)
    axis = step.attribute("axis", 0) % len(shape)
    x = step.variable(0)
    if axis == step.walk.batch_axis(x):
        raise BatchIsFixed("photos are picked out of the batch")
    indices = step.variable(1)
    batch = step.walk.batch_axis(x)
    if batch is not None and step.walk.batch_axis(indices) is None:
        counts: list[Any] = [1] * len(shape)
        counts[batch] = paddle.shape(x)[batch]
        indices = paddle.tile(indices, counts)
    return paddle.take_along_axis(x, _from_start(indices, shape[axis]), axis, broadcast=False)


@operator("GatherND")
def gather_nd(step: Step) -> Any:
    """Take entries by indices on several axes. The first `batch_dims` axes match one to one."""
    import paddle

    shape, places = step.shape(0), step.shape(1)
    lead = step.attribute("batch_dims", 0)
    x, indices = step.variable(0), step.variable(1)
    batch = step.walk.batch_axis(x)
    if batch is not None and batch >= lead and batch < lead + places[-1]:
        raise BatchIsFixed("photos are picked out of the batch")
    if lead == 0:
        return paddle.gather_nd(x, indices)
    return _gather_along(step, x, indices, shape, places, lead)


def _gather_along(
    step: Step, x: Any, indices: Any, shape: tuple[int, ...], places: tuple[int, ...], lead: int
) -> Any:
    """Reshape x to rows and convert indices on several axes to row numbers, to copy whole rows."""
    import paddle

    batch = step.walk.batch_axis(x)
    if batch is None:
        batch = step.walk.batch_axis(indices)
    if batch not in (None, 0):
        raise BatchIsFixed("the batch is not the first axis")
    deep = places[-1]
    inner, rest = shape[lead : lead + deep], prod(shape[lead + deep :])
    each, groups = prod(inner), prod(shape[:lead])
    spots = paddle.cast(paddle.reshape(indices, [-1, prod(places[lead:-1]), deep]), "int64")
    sides = step.walk.variable(np.array(inner, np.int64))
    below = paddle.cast(paddle.less_than(spots, paddle.zeros_like(spots)), "int64")
    spots = paddle.add(spots, step.walk.multiply(below, sides))
    strides = np.array([prod(inner[at + 1 :]) for at in range(deep)], np.int64)
    numbers = paddle.sum(
        step.walk.multiply(spots, step.walk.variable(strides)), axis=-1, keepdim=False
    )
    if batch is None:
        first = step.walk.variable(np.arange(groups, dtype=np.int64).reshape(-1, 1) * each)
    else:
        ones = paddle.ones_like(paddle.slice(numbers, [1], [0], [1]))
        counted = paddle.subtract(paddle.cumsum(ones, axis=0), ones)
        first = paddle.scale(counted, float(each))
    rows = paddle.reshape(paddle.add(numbers, first), [-1])
    picked = paddle.gather(paddle.reshape(x, [-1, rest]), rows)
    target = list(step.shape_out())
    if batch is not None:
        target[0] = -1
    return paddle.reshape(picked, target)


@operator("ScatterND")
def scatter_nd(step: Step) -> Any:
    """Write numbers at indices on several axes, or add them."""
    import paddle

    reduction = step.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise step.unsupported(f"reduction {reduction}")
    x, updates = step.variable(0), step.variable(2)
    if step.walk.batch_axis(x) is not None or step.walk.batch_axis(updates) is not None:
        return _scatter_in_batch(step, x, updates, reduction)
    indices = step.variable(1)
    if reduction == "none":
        old = paddle.gather_nd(x, indices)
        updates = paddle.subtract(updates, old)
    return paddle.scatter_nd_add(x, indices, updates)


def _scatter_in_batch(step: Step, x: Any, updates: Any, reduction: str) -> Any:
    """Scatter at constant indices: each number of one photo is either kept or taken from the
    updates.
    """
    import paddle

    indices, shape = step.constant(1), step.shape(0)
    if reduction != "none":
        raise BatchIsFixed("numbers are added within a batch")
    batch = step.walk.batch_axis(x if step.walk.batch_axis(x) is not None else updates)
    numbers = np.arange(prod(shape)).reshape(shape)
    hit = np.full(numbers.shape, -1)
    spots = tuple(np.moveaxis(indices, -1, 0))
    hit[spots] = np.arange(prod(step.shape(2))).reshape(step.shape(2))
    if (
        batch != 0
        or shape[0] != 1
        or (step.shape(2)[0] != 1 and step.walk.batch_axis(updates) == 0)
    ):
        raise BatchIsFixed("numbers are put across the batch")
    size, count = prod(shape), prod(step.shape(2))
    old = paddle.reshape(x, [-1 if step.walk.batch_axis(x) is not None else 1, size])
    new = paddle.reshape(updates, [-1 if step.walk.batch_axis(updates) is not None else 1, count])
    picks = step.walk.variable(np.maximum(hit.reshape(-1), 0).astype(np.int64))
    chosen = paddle.index_select(new, picks, 1)
    mask = step.walk.variable((hit.reshape(1, -1) >= 0).astype(np.float32))
    stay = paddle.scale(mask, -1.0, 1.0)
    merged = paddle.add(step.walk.multiply(old, stay), step.walk.multiply(chosen, mask))
    return paddle.reshape(merged, [-1, *shape[1:]])


@operator("ScatterElements")
def scatter_elements(step: Step) -> Any:
    """Write one number for each index along an axis, or add it."""
    import paddle

    reductions = {"none": "assign", "add": "add", "mul": "multiply"}
    reduction = step.attribute("reduction", "none")
    if reduction not in reductions:
        raise step.unsupported(f"reduction {reduction}")
    x = step.variable(0)
    axis = step.attribute("axis", 0) % len(step.shape(0))
    if step.walk.batch_axis(x) is not None and step.walk.batch_axis(step.value(1)) is None:
        raise BatchIsFixed("places of one photo for a batch")
    return paddle.put_along_axis(
        x,
        _from_start(step.variable(1), step.shape(0)[axis]),
        step.variable(2),
        axis,
        reduce=reductions[reduction],
        broadcast=False,
    )
