"""Operators that pick numbers by their places, and put them there."""

from typing import Any

import numpy as np

from worker.inference.importing.operators.reshaping import reshaped
from worker.inference.importing.walk import BatchIsFixed, Step, operator


@operator("Gather")
def gather(step: Step) -> Any:
    """Whole slices along an axis, by index; the indices' shape takes the axis' place."""
    import paddle

    shape = step.shape(0)
    axis = step.attribute("axis", 0) % len(shape)
    x, indices = step.variable(0), step.value(1)
    if axis == step.walk.batch_axis(x):
        raise BatchIsFixed("photos are picked out of the batch")
    if isinstance(indices, np.ndarray):
        indices = indices.astype(np.int64) % shape[axis]  # negative ones count from the end
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
    """Indices below 0 count from the end."""
    import paddle

    back = paddle.scale(paddle.cast(paddle.less_than(indices, paddle.zeros_like(indices)),
                                    indices.dtype), float(side))  # fmt: skip
    return paddle.add(indices, back)


@operator("GatherElements")
def gather_elements(step: Step) -> Any:
    """One number for each index, along an axis."""
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
    """By places of several axes at once; the first `batch_dims` axes go along one by one."""
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
    """All of x flattened to rows, and each place to the number of its row."""
    import paddle

    batch = step.walk.batch_axis(x)
    if batch is None:
        batch = step.walk.batch_axis(indices)
    if batch not in (None, 0):
        raise BatchIsFixed("the batch is not the first axis")
    deep = places[-1]
    inner = shape[lead : lead + deep]  # what a place says
    rest = shape[lead + deep :]
    rows = int(np.prod(inner))
    strides = [int(np.prod(inner[at + 1 :])) for at in range(deep)]
    flat_places = int(np.prod(places[lead:-1]))
    groups = int(np.prod(shape[:lead]))
    weights = step.walk.variable(np.array(strides, np.int64).reshape(1, 1, deep))
    sides = step.walk.variable(np.array(inner, np.int64).reshape(1, 1, deep))
    free = -1 if batch is not None else groups
    spots = paddle.cast(paddle.reshape(indices, [free, flat_places, deep]), "int64")
    below = paddle.cast(paddle.less_than(spots, paddle.zeros_like(spots)), "int64")
    spots = paddle.add(spots, step.walk.multiply(below, sides))
    numbers = paddle.sum(step.walk.multiply(spots, weights), axis=-1, keepdim=True)
    table = paddle.reshape(x, [free, rows, int(np.prod(rest))])
    if not rest or int(np.prod(rest)) == 1:
        picked = paddle.take_along_axis(table, numbers, 1, broadcast=False)
    else:
        wide = paddle.tile(numbers, [1, 1, int(np.prod(rest))])
        picked = paddle.take_along_axis(table, wide, 1, broadcast=False)
    target = list(step.shape_out())
    if batch is not None:
        target[0] = -1
    return paddle.reshape(picked, target)


@operator("ScatterND")
def scatter_nd(step: Step) -> Any:
    """Numbers put at places of several axes (or added there)."""
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
    """Constant places: each number of one photo is taken from the updates, or stays."""
    import paddle

    indices, shape = step.constant(1), step.shape(0)
    if reduction != "none":
        raise BatchIsFixed("numbers are added within a batch")
    batch = step.walk.batch_axis(x if step.walk.batch_axis(x) is not None else updates)
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    hit = np.full(numbers.shape, -1)
    spots = tuple(np.moveaxis(indices, -1, 0))
    hit[spots] = np.arange(int(np.prod(step.shape(2)))).reshape(step.shape(2))
    if (
        batch != 0
        or shape[0] != 1
        or (step.shape(2)[0] != 1 and step.walk.batch_axis(updates) == 0)
    ):
        raise BatchIsFixed("numbers are put across the batch")
    size, count = int(np.prod(shape)), int(np.prod(step.shape(2)))
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
    """Numbers put along an axis, one for each index (or added there)."""
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
