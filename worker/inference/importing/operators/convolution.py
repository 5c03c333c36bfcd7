"""Convolutions and pooling in two dimensions."""

from typing import Any

from worker.inference.importing.walk import Step, operator


def _two(step: Step, name: str, default: int = 1) -> list[int]:
    """Values for height and width. Raises UnsupportedOperatorError for one or three dimensions."""
    if len(step.shape(0)) != 4:
        raise step.unsupported(f"over {len(step.shape(0)) - 2} dimensions; two are known")
    given = step.attribute(name) or [default, default]
    return [int(one) for one in given]


def _pads(step: Step, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Padding as [top, bottom, left, right]. Handles explicit padding, SAME and VALID."""
    auto = step.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET":
        top, left, bottom, right = step.attribute("pads") or [0, 0, 0, 0]
        return [top, bottom, left, right]
    pads = []
    for axis in range(2):
        side, reach = step.shape(0)[2 + axis], (kernel[axis] - 1) * dilations[axis] + 1
        outside = max(0, (-(-side // strides[axis]) - 1) * strides[axis] + reach - side)
        less = outside // 2 if auto != "VALID" else 0
        more = outside - outside // 2 if auto != "VALID" else 0
        pads += [less, more] if auto != "SAME_LOWER" else [more, less]
    return pads


@operator("Conv")
def convolution(step: Step) -> Any:
    """Conv: with groups, strides, dilations and any padding."""
    import paddle.nn.functional as nnf

    strides, dilations = _two(step, "strides"), _two(step, "dilations")
    pads = _pads(step, list(step.shape(1)[2:]), strides, dilations)
    x = nnf.conv2d(
        step.variable(0),
        step.variable(1),
        stride=strides,
        padding=_simple(pads),
        dilation=dilations,
        groups=step.attribute("group", 1),
    )
    return _biased(step, x)


def _biased(step: Step, x: Any) -> Any:
    """Add the bias as a vector along axis 1.

    Paddle's passes can fuse this form into the convolution. Paddle's own conv2d reshapes the bias
    first, and then no oneDNN pass recognises it: adding biases took a third of the network's time.
    """
    if not step.has(2):
        return x
    return step.walk.emit("elementwise_add", {"X": x, "Y": step.variable(2)}, axis=1)


def _simple(pads: list[int]) -> list[int]:
    """Two numbers if both sides have the same padding: accelerators support this form best."""
    top, bottom, left, right = pads
    return [top, left] if (top, left) == (bottom, right) else pads


@operator("ConvTranspose")
def transposed(step: Step) -> Any:
    """ConvTranspose. If the padding removes more on one side, the result is sliced."""
    import paddle
    import paddle.nn.functional as nnf

    strides, dilations = _two(step, "strides"), _two(step, "dilations")
    extra = _two(step, "output_padding", 0)
    kernel, wanted = list(step.shape(1)[2:]), list(step.shape_out()[2:])
    pads, whole = [], []
    for axis in range(2):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        side = (step.shape(0)[2 + axis] - 1) * strides[axis] + reach
        whole.append(side)
        taken = side + extra[axis] - wanted[axis]
        if step.attribute("auto_pad", "NOTSET") == "NOTSET" and not step.attribute("output_shape"):
            first = (step.attribute("pads") or [0, 0, 0, 0])[axis]
        else:  # SAME_UPPER removes the odd pixel at the end, SAME_LOWER at the beginning
            upper = step.attribute("auto_pad", "NOTSET") == "SAME_UPPER"
            first = taken // 2 if upper else taken - taken // 2
        pads.append((first, taken - first))
    even = all(first == last and first >= 0 for first, last in pads)
    x = nnf.conv2d_transpose(
        step.variable(0),
        step.variable(1),
        stride=strides,
        padding=[first for first, _last in pads] if even else 0,
        output_padding=extra if even or any(extra) else 0,
        dilation=dilations,
        groups=step.attribute("group", 1),
    )
    x = _biased(step, x)
    if even:
        return x
    firsts = [first for first, _last in pads]
    return paddle.slice(x, [2, 3], firsts, [f + w for f, w in zip(firsts, wanted, strict=True)])


@operator("MaxPool", "AveragePool")
def pool(step: Step) -> Any:
    """Maximum or mean of a window. Rounding up (ceil_mode) becomes additional padding."""
    import paddle.nn.functional as nnf

    if step.kind == "MaxPool" and len([name for name in step.node.outputs if name]) > 1:
        raise step.unsupported("with the places as an output")
    kernel, strides = _two(step, "kernel_shape"), _two(step, "strides")
    if _two(step, "dilations") != [1, 1]:
        raise step.unsupported("with dilations")
    pads = _pads(step, kernel, strides, [1, 1])
    counted = bool(step.attribute("count_include_pad", 0))
    for axis in range(2):
        reached = (step.shape_out()[2 + axis] - 1) * strides[axis] + kernel[axis]
        beyond = reached - step.shape(0)[2 + axis] - pads[2 * axis] - pads[2 * axis + 1]
        if beyond > 0:
            if step.kind == "AveragePool" and counted:
                raise step.unsupported("ceil_mode with count_include_pad")
            pads[2 * axis + 1] += beyond
    x = step.variable(0)
    if step.kind == "MaxPool":
        return nnf.max_pool2d(x, kernel, strides, _simple(pads))
    return nnf.avg_pool2d(x, kernel, strides, _simple(pads), exclusive=not counted)


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(step: Step) -> Any:
    """Pool over the whole height and width."""
    import paddle.nn.functional as nnf

    _two(step, "kernel_shape")
    average = step.kind == "GlobalAveragePool"
    function = nnf.adaptive_avg_pool2d if average else nnf.adaptive_max_pool2d
    return function(step.variable(0), 1)


@operator("DeformConv")
def deformable(step: Step) -> Any:
    """Deformable convolution. Offsets (y, x) move each tap, and a mask weights it."""
    from paddle.vision.ops import deform_conv2d

    strides, dilations = _two(step, "strides"), _two(step, "dilations")
    pads = _simple(_pads(step, list(step.shape(1)[2:]), strides, dilations))
    if len(pads) == 4:
        raise step.unsupported("with uneven pads")
    return deform_conv2d(
        step.variable(0),
        step.variable(2),
        step.variable(1),
        step.variable(3) if step.has(3) else None,
        stride=strides,
        padding=pads,
        dilation=dilations,
        deformable_groups=step.attribute("offset_group", 1),
        groups=step.attribute("group", 1),
        mask=step.variable(4) if step.has(4) else None,
    )
