"""Operators that interpolate between pixels: Resize in all its modes, Upsample, GridSample.

Where Paddle's own interpolation (and oneDNN's resize) computes exactly what ONNX defines, it is
used: half-pixel centres and whole repetitions. Otherwise two small matrices, one for rows and one
for columns, compute the result. numpy fills them by ONNX's formula.
"""

from typing import Any

import numpy as np

from worker.inference.importing.graph import Array
from worker.inference.importing.walk import Step, operator

CUBIC = -0.75
"""ONNX's and Paddle's default coefficient of the cubic kernel."""


@operator("Resize", "Upsample")
def resize(step: Step) -> Any:
    """Resize height and width by nearest, linear or cubic interpolation."""
    shape, wanted = step.shape(0), step.shape_out()
    if len(shape) != 4 or shape[:2] != wanted[:2]:
        raise step.unsupported(f"from {shape} to {wanted}: height and width only")
    mode = step.attribute("mode", "nearest")
    coordinates = step.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = step.attribute("nearest_mode", "round_prefer_floor")
    if step.kind == "Upsample" or step.opset < 11:
        coordinates, rounding = "asymmetric", "floor"
    if coordinates == "tf_crop_and_resize":
        raise step.unsupported("tf_crop_and_resize")
    scales = _scales(step, shape, wanted)
    even = all(abs(scale * a - b) < 1e-3 for scale, a, b in
               zip(scales, shape[2:], wanted[2:], strict=True))  # fmt: skip
    smooth = bool(step.attribute("antialias", 0)) and min(scales) < 1
    if shape == wanted:  # whatever the scales are; onnxruntime does the same
        return step.value(0)
    x = step.variable(0)
    if even and not smooth and not step.attribute("exclude_outside", 0):
        made = _paddles_own(step, x, mode, coordinates, rounding, scales)
        if made is not None:
            return made
    return _by_matrices(step, x, mode, coordinates, rounding, scales, smooth)


def _scales(step: Step, shape: tuple[int, ...], wanted: tuple[int, ...]) -> list[float]:
    """Scales of height and width: those in the file, otherwise the ratio of the sizes."""
    index = {"Upsample": 1}.get(step.kind, 1 if step.opset < 11 else 2)
    if step.has(index):
        given = step.constant(index).reshape(-1)
        if len(given):
            return [float(one) for one in given[-2:]]
    if step.attribute("scales"):
        return [float(one) for one in step.attribute("scales")[-2:]]
    return [after / before for before, after in zip(shape[2:], wanted[2:], strict=True)]


def _paddles_own(
    step: Step, x: Any, mode: str, coordinates: str, rounding: str, scales: list[float]
) -> Any:
    """Resize with Paddle's interpolate. Returns None if Paddle computes something else."""
    import paddle.nn.functional as nnf

    size = list(step.shape_out()[2:])
    halves = min(size) > 1 and coordinates in (
        "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric",
    )  # fmt: skip
    if mode == "nearest":
        whole = all(scale >= 1 and float(scale).is_integer() for scale in scales)
        plain = coordinates == "asymmetric" and rounding == "floor"
        repeats = whole and halves and rounding.startswith("round")
        if whole and (plain or repeats):
            return nnf.interpolate(x, size, mode="nearest")
        return None
    if mode == "linear" and halves:
        return nnf.interpolate(x, size, mode="bilinear", align_mode=0)
    if mode == "cubic" and abs(step.attribute("cubic_coeff_a", CUBIC) - CUBIC) < 1e-6:
        if halves:
            return nnf.interpolate(x, size, mode="bicubic")
        if coordinates == "align_corners" and min(size) > 1:
            return nnf.interpolate(x, size, mode="bicubic", align_corners=True)
    return None


def _by_matrices(
    step: Step,
    x: Any,
    mode: str,
    coordinates: str,
    rounding: str,
    scales: list[float],
    smooth: bool,
) -> Any:
    import paddle

    tall, wide = (
        weights_of(
            step.shape(0)[2 + axis], step.shape_out()[2 + axis], scales[axis], mode, coordinates,
            rounding=rounding, smooth=smooth, cubic=step.attribute("cubic_coeff_a", CUBIC),
            exclude=bool(step.attribute("exclude_outside", 0)),
        )
        for axis in range(2)
    )  # fmt: skip
    if mode == "nearest":
        rows, columns = (step.walk.variable(one.argmax(1).astype(np.int64)) for one in (tall, wide))
        return paddle.index_select(paddle.index_select(x, rows, 2), columns, 3)
    x = step.walk.matmul(x, step.walk.variable(np.ascontiguousarray(wide.T)))
    return step.walk.matmul(step.walk.variable(tall), x)


def weights_of(
    before: int,
    after: int,
    scale: float,
    mode: str,
    coordinates: str,
    *,
    rounding: str = "round_prefer_floor",
    smooth: bool = False,
    cubic: float = CUBIC,
    exclude: bool = False,
) -> Array:
    """The matrix [after, before] float32 that resizes one side by ONNX's formula for Resize.

    Positions are computed in fp32 as in onnxruntime. This decides between two equally near
    neighbours.
    """
    place, ratio = np.arange(after, dtype=np.float32), np.float32(scale)
    if coordinates == "align_corners":
        source = place * (before - 1) / (after - 1) if after > 1 else place * 0
    elif coordinates == "asymmetric":
        source = place / ratio
    else:
        source = (place + np.float32(0.5)) / ratio - np.float32(0.5)
        if coordinates == "pytorch_half_pixel" and after == 1:
            source = place * 0
        if coordinates == "half_pixel_symmetric":
            source += np.float32(before / 2) * (1 - np.float32(after) / (ratio * before))
    matrix = np.zeros((after, before))
    source = source.astype(np.float64)
    if mode == "nearest":
        picked = {
            "floor": np.floor(source),
            "ceil": np.ceil(source),
            "round_prefer_floor": np.ceil(source - 0.5),
            "round_prefer_ceil": np.floor(source + 0.5),
        }[rounding]
        matrix[np.arange(after), np.clip(picked, 0, before - 1).astype(int)] = 1
        return matrix.astype(np.float32)
    stretch = max(1.0, 1 / scale) if smooth else 1.0
    reach = int(np.ceil((2 if mode == "cubic" else 1) * stretch))
    base = np.floor(source).astype(int)
    for step in range(-reach, reach + 2):
        taps = base + step
        weight = _kernel((source - taps) / stretch, mode, cubic)
        inside = (taps >= 0) & (taps < before)
        if exclude:
            weight = np.where(inside, weight, 0)
        np.add.at(matrix, (np.arange(after), np.clip(taps, 0, before - 1)), weight)
    total = matrix.sum(1, keepdims=True)
    return (matrix / np.where(total == 0, 1, total)).astype(np.float32)


def _kernel(distance: Array, mode: str, a: float) -> Array:
    """The linear kernel (a triangle), or the cubic kernel of Keys 1981 with the parameter a."""
    d = np.abs(distance)
    if mode == "linear":
        tent: Array = np.maximum(0, 1 - d)
        return tent
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


@operator("GridSample")
def grid_sample(step: Step) -> Any:
    """Sample at the positions of a grid [N, H, W, 2] with values in -1..1."""
    import paddle.nn.functional as nnf

    mode = step.attribute("mode", "linear").removeprefix("bi")
    if mode not in ("linear", "nearest"):
        raise step.unsupported(f"mode {mode}")
    return nnf.grid_sample(
        step.variable(0),
        step.variable(1),
        mode={"linear": "bilinear", "nearest": "nearest"}[mode],
        padding_mode=step.attribute("padding_mode", "zeros"),
        align_corners=bool(step.attribute("align_corners", 0)),
    )
