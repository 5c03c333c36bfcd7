"""What stands in the tags of an ICC profile: its curves and the places of its primaries."""

import struct

import numpy as np
from numpy.typing import NDArray

CURVE_STEPS = 65_536


def tags_of(profile: bytes) -> dict[bytes, bytes]:
    """The tags of a profile (ICC.1:2022, 7.3). Raises struct.error."""
    (count,) = struct.unpack_from(">I", profile, 128)
    found = {}
    for number in range(min(count, 100)):
        name, start, size = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        found[name] = profile[start : start + size]
    return found


def xyz_of(tag: bytes) -> NDArray[np.float64]:
    """The place of a primary in XYZ (ICC.1:2022, 10.31). Raises struct.error."""
    return np.array(struct.unpack_from(">3i", tag, 8)) / 65_536


def curve_of(tag: bytes) -> NDArray[np.float32]:
    """A curve [CURVE_STEPS] in 0..1. Raises struct.error, ValueError."""
    return _curve_values(tag, np.linspace(0, 1, CURVE_STEPS)).clip(0, 1).astype(np.float32)


def _curve_values(tag: bytes, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve [CURVE_STEPS] in 0..1 (ICC.1:2022, 10.6, 10.18).

    Raises struct.error, ValueError.
    """
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return x
        if count == 1:
            return np.asarray(np.power(x, struct.unpack_from(">H", tag, 12)[0] / 256))
        table = np.frombuffer(tag, ">u2", count, 12) / 65_535
        return np.interp(x, np.linspace(0, 1, count), table)
    if tag[:4] != b"para":
        raise ValueError("unknown curve")
    (kind,) = struct.unpack_from(">H", tag, 8)
    parameters = np.array(struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)) / 65_536
    g, a, b, c, d, e, f = np.pad(parameters, (0, 7 - len(parameters))).tolist()
    if kind == 0:
        return np.asarray(np.power(x, g))
    with np.errstate(invalid="ignore", divide="ignore"):
        power = np.nan_to_num((a * x + b).clip(0) ** g)
    low, start = {
        1: (0 * x, -b / a if a else 0),
        2: (0 * x + c, -b / a if a else 0),
        3: (c * x, d),
        4: (c * x + f, d),
    }[kind]
    high = power + {1: 0, 2: c, 3: 0, 4: e}[kind]
    return np.asarray(np.where(x >= start, high, low))
