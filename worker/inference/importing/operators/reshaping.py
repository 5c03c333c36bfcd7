"""Operators that move numbers without changing them: reshape, transpose, slice, concat, pad and
others.

The file's shapes are those of one photo. The Paddle variable shows which axis holds the batch (its
size is -1). Each handler passes that on to its result.
"""

from math import prod
from typing import Any

from worker.inference.importing.walk import BatchIsFixed, Step, Walk, operator

FAR = 2**31 - 1
"""ONNX exporters write this number for "to the end"."""


def reshaped(walk: Walk, x: Any, shape: tuple[int, ...], target: list[int]) -> Any:
    """Reshape `x` from `shape` to `target`; both are shapes of one photo.

    The batch is the outermost factor of its axis. So it moves to an axis with the same number of
    elements before it. Raises BatchIsFixed if there is no such axis.
    """
    import paddle

    axis = walk.batch_axis(x)
    target = list(target)
    if axis is not None:
        before = prod(shape[:axis])
        fits = [at for at in range(len(target)) if prod(target[:at]) == before]
        if not fits:
            raise BatchIsFixed(f"{shape} to {target}")
        target[axis if axis in fits else fits[0]] = -1
    return paddle.reshape(x, target)


@operator("Reshape", "Flatten")
def reshape(step: Step) -> Any:
    """Reshape: the numbers keep their order."""
    return reshaped(step.walk, step.variable(0), step.shape(0), list(step.shape_out()))


@operator("Squeeze", "Unsqueeze")
def squeeze(step: Step) -> Any:
    """Remove or add axes of size 1."""
    import paddle

    x, shape = step.variable(0), step.shape(0)
    axes = step.numbers("axes", 1)
    if step.kind == "Unsqueeze":
        rank = len(shape) + len(axes or ())
        return paddle.unsqueeze(x, sorted(axis % rank for axis in axes or ()))
    batch = step.walk.batch_axis(x)
    chosen = (
        [axis % len(shape) for axis in axes]
        if axes is not None
        else [axis for axis, side in enumerate(shape) if side == 1]
    )
    if batch in chosen:
        raise BatchIsFixed(f"the batch of {shape} is squeezed")
    return paddle.squeeze(x, chosen)


@operator("Transpose")
def transpose(step: Step) -> Any:
    """Reorder the axes. Without a given order they are reversed."""
    import paddle

    rank = len(step.shape(0))
    return paddle.transpose(step.variable(0), step.attribute("perm", list(range(rank))[::-1]))


@operator("Concat")
def concat(step: Step) -> Any:
    """Join tensors along an axis. A constant is repeated for each photo."""
    import paddle

    axis = step.attribute("axis") % len(step.shape_out())
    parts = [step.variable(index) for index in range(len(step)) if 0 not in step.shape(index)]
    like = next((one for one in parts if step.walk.batch_axis(one) is not None), None)
    if like is None:
        return paddle.concat(parts, axis)
    batch = step.walk.batch_axis(like)
    if batch == axis:
        raise BatchIsFixed("photos are joined along the batch")
    return paddle.concat([_for_each(step.walk, one, like, batch) for one in parts], axis)


def _for_each(walk: Walk, x: Any, like: Any, batch: int | None) -> Any:
    """Repeat a constant of one photo as often as `like` has photos."""
    import paddle

    if batch is None or walk.batch_axis(x) is not None:
        return x
    if x.shape[batch] != 1:
        raise BatchIsFixed("a constant holds several photos")
    counts: list[Any] = [1] * len(x.shape)
    counts[batch] = paddle.shape(like)[batch]
    return paddle.tile(x, counts)


@operator("Slice")
def cut(step: Step) -> Any:
    """Slice: start, end and step on some axes. Attributes before opset 10, inputs since then."""
    import paddle

    shape = step.shape(0)
    starts, ends = step.numbers("starts", 1) or [], step.numbers("ends", 2) or []
    axes = step.numbers("axes", 3) or list(range(len(starts)))
    strides = (step.numbers("steps", 4) if step.has(4) else None) or [1] * len(starts)
    axes = [axis % len(shape) for axis in axes]
    x = step.variable(0)
    batch = step.walk.batch_axis(x)
    kept = []
    for axis, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        whole = slice(start, None if abs(end) >= FAR else end, stride)
        first, last, stride = whole.indices(shape[axis])
        if (first, last, stride) == (0, shape[axis], 1):
            continue
        if axis == batch:
            raise BatchIsFixed("the batch is sliced")
        kept.append((axis, first, last, stride))
    if not kept:
        return x
    axes_, firsts, lasts, strides_ = (list(column) for column in zip(*kept, strict=True))
    if all(stride == 1 for stride in strides_):
        return paddle.slice(x, axes_, firsts, lasts)
    # Unlike Python, Paddle reads the end -1 of a backward slice as the last index.
    lasts = [
        last if last >= 0 else -shape[axis] - 1 for axis, last in zip(axes_, lasts, strict=True)
    ]
    return paddle.strided_slice(x, axes_, firsts, lasts, strides_)


@operator("Split")
def split(step: Step) -> Any:
    """Split into equal pieces, or into pieces of given sizes."""
    import paddle

    axis = step.attribute("axis", 0) % len(step.shape(0))
    if axis == step.walk.batch_axis(step.variable(0)):
        raise BatchIsFixed("the batch is split")
    sizes = step.numbers("split", 1)
    if sizes is None:
        count = len(step.node.outputs)
        side = step.shape(0)[axis]
        each = -(-side // count)
        sizes = [min(each, side - at * each) for at in range(count)]
    if len(sizes) == 1:
        return [step.value(0)]
    return paddle.split(step.variable(0), sizes, axis)


@operator("Expand")
def expand(step: Step) -> Any:
    """Repeat axes of size 1 to reach a shape."""
    import paddle

    x, target = step.variable(0), list(step.shape_out())
    batch = step.walk.batch_axis(x)
    if batch is not None:
        at = batch + len(target) - len(step.shape(0))
        if target[at] != step.shape(0)[batch]:
            raise BatchIsFixed("the batch is expanded")
        target[at] = -1
    return paddle.expand(x, target)


@operator("Tile")
def tile(step: Step) -> Any:
    """Repeat along each axis."""
    import paddle

    repeats = [int(one) for one in step.constant(1)]
    x = step.variable(0)
    batch = step.walk.batch_axis(x)
    if batch is not None and repeats[batch] != 1:
        raise BatchIsFixed("the batch is tiled")
    return paddle.tile(x, repeats)


@operator("Pad")
def pad(step: Step) -> Any:
    """Pad with a value, the edge's values, or mirrored values."""
    import paddle
    import paddle.nn.functional as nnf

    rank = len(step.shape(0))
    given = step.numbers("pads", 1) or []
    axes = [axis % rank for axis in step.numbers("axes", 3) or []] or list(range(rank))
    before, after = [0] * rank, [0] * rank
    for at, axis in enumerate(axes):
        before[axis], after[axis] = given[at], given[at + len(axes)]
    mode = step.attribute("mode", "constant")
    value = float(step.constant(2).item()) if step.has(2) else step.attribute("value", 0.0)
    x = step.variable(0)
    if min(before + after) < 0:
        raise step.unsupported("less than nothing")
    if not any(before + after):
        return x
    if rank == 4 and not any(before[:2] + after[:2]):
        names = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
        if mode not in names:
            raise step.unsupported(f"mode {mode}")
        sides = [before[3], after[3], before[2], after[2]]
        return nnf.pad(x, sides, mode=names[mode], value=value)
    if mode != "constant":
        raise step.unsupported(f"mode {mode} on {rank} dimensions")
    batch = step.walk.batch_axis(x)
    if batch is not None and before[batch] + after[batch]:
        raise BatchIsFixed("the batch is padded")
    for axis in range(rank):
        if before[axis] or after[axis]:
            x = _padded(x, axis, before[axis], after[axis], value, paddle)
    return x


def _padded(x: Any, axis: int, before: int, after: int, value: float, paddle: Any) -> Any:
    """Pad by concatenation. Paddle's own padding with a constant does not support a free batch."""
    first = paddle.slice(x, [axis], [0], [1])
    edge = paddle.full_like(first, value)
    counts = [1] * len(x.shape)
    parts = []
    for count, at_start in ((before, True), (after, False)):
        if count:
            counts[axis] = count
            block = paddle.tile(edge, counts)
            parts.append((at_start, block))
    joined = [block for at_start, block in parts if at_start]
    joined.append(x)
    joined += [block for at_start, block in parts if not at_start]
    return paddle.concat(joined, axis)


@operator("DepthToSpace")
def depth_to_space(step: Step) -> Any:
    """Move channels into b × b pixels. The channel order is (block, channel) for DCR and (channel,
    block) for CRD.
    """
    import paddle

    block = step.attribute("blocksize")
    _n, channels, height, width = step.shape(0)
    deep = channels // block**2
    x = step.variable(0)
    lead = -1 if step.walk.batch_axis(x) is not None else 1
    if step.attribute("mode", "DCR") == "DCR":
        x = paddle.reshape(x, [lead, block, block, deep, height, width])
        x = paddle.transpose(x, [0, 3, 4, 1, 5, 2])
    else:
        x = paddle.reshape(x, [lead, deep, block, block, height, width])
        x = paddle.transpose(x, [0, 1, 4, 2, 5, 3])
    return paddle.reshape(x, [lead, deep, height * block, width * block])


@operator("SpaceToDepth")
def space_to_depth(step: Step) -> Any:
    """Move b × b pixels into channels."""
    import paddle

    block = step.attribute("blocksize")
    _n, channels, height, width = step.shape(0)
    x = step.variable(0)
    lead = -1 if step.walk.batch_axis(x) is not None else 1
    x = paddle.reshape(x, [lead, channels, height // block, block, width // block, block])
    x = paddle.transpose(x, [0, 3, 5, 1, 2, 4])
    return paddle.reshape(x, [lead, channels * block**2, height // block, width // block])
