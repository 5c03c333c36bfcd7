"""Makes wide-gamut ICC profiles, and converts their colours to sRGB by formula."""

import struct

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

SRGB_TO_XYZ: Matrix = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
"""Linear sRGB to XYZ under D50 (Bradford): Lindbloom's table."""

ADOBE_RGB_TO_XYZ: Matrix = np.array(
    [
        [0.6097559, 0.2052401, 0.1492240],
        [0.3111242, 0.6256560, 0.0632197],
        [0.0194811, 0.0608902, 0.7448387],
    ]
)
"""Adobe RGB (1998) to XYZ, also under D50. Its gamma is 563/256."""

ADOBE_GAMMA = 563 / 256


def adobe_rgb() -> bytes:
    """An ICC profile of version 2 (ICC.1:2001-04) with three primaries and one gamma."""
    primaries = [_xyz(*ADOBE_RGB_TO_XYZ[:, column]) for column in range(3)]
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 563) + bytes(2)
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True))
    return _profile(
        "A wide gamut", b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    )


def _profile(name: str, space: bytes, own: dict[bytes, bytes]) -> bytes:
    """A profile of a display (ICC.1:2001-04) with these tags."""
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + b"None\0",
        b"wtpt": _xyz(0.9642, 1, 0.8249),
    }
    tags |= own
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", start + len(body), bytes(4), 0x02100000, b"mntr", space, b"XYZ "
    )
    header += (
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(0.9642, 1, 0.8249)[8:]
    )
    return header + bytes(128 - len(header)) + table + body


def adobe_to_srgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels [..., 3] in Adobe RGB as sRGB; what lies outside of it is clipped."""
    return (encode_srgb(adobe_to_linear(pixels / 255.0)) * 255).round().astype(np.uint8)


def adobe_to_linear(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adobe RGB [..., 3] in 0..1 as linear sRGB, clipped."""
    linear = colours**ADOBE_GAMMA
    return np.clip(linear @ ADOBE_RGB_TO_XYZ.T @ np.linalg.inv(SRGB_TO_XYZ).T, 0, 1)


def encode_srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear values in 0..1 as sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def linear_of_srgb(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reverse of `encode_srgb`."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(one * 65_536) for one in (x, y, z)))


def linear_rgb() -> bytes:
    """The primaries of sRGB and no curve: what is named sRGB by its primaries and is far too dark
    when it is taken for sRGB.
    """
    columns = [_xyz(*SRGB_TO_XYZ[:, column]) for column in range(3)]
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv" + bytes(8))
    return _profile("Linear sRGB", b"RGB ", tags)


def grey_gamma(gamma: float) -> bytes:
    """A grey profile of one gamma."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    return _profile("A grey", b"GRAY", {b"kTRC": curve})
