"""Colours become sRGB with 8 bits: by the photo's ICC profile, or by what its samples mean. Colours
that a caller names become those of a photo that keeps its profile.

What a profile does decides, not what it is called: one that is named sRGB may be linear.
"""

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from shared.errors import UnsupportedImageError
from worker.imaging.arrays import Image
from worker.imaging.icc_tags import CURVE_STEPS, curve_of, tags_of, xyz_of
from worker.imaging.samples import FULL, Samples, row_blocks, to_uint8

MAX_CACHED_PROFILE_BYTES = 64 * 1024
"""Longer profiles than this are not sRGB: they hold tables, as those of printers do."""

PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "LAB"}
"""The colour space that a profile must have, by the photo's."""

XYZ_TO_SRGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
"""XYZ under D50 (as in ICC profiles) to linear sRGB, with Bradford's adaptation (Lindbloom)."""

P3_TO_XYZ = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
BT2020_TO_XYZ = np.array(
    [
        [0.67348, 0.16566, 0.12505],
        [0.27904, 0.67534, 0.04562],
        [-0.00194, 0.02998, 0.79684],
    ]
)
"""Display P3 and BT.2020 to XYZ under D50, by their primaries and Bradford's adaptation."""

SRGB_CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""x and y of white, red, green and blue (ITU-R BT.709)."""

BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
"""XYZ to the answers of the eye's cones, in which whites are exchanged (ICC.1:2022, annex E)."""

D50 = np.array([0.9642, 1.0, 0.8249])

BT2020, P3 = 9, 12
LINEAR = 8
HDR_TRANSFERS = (16, 18)
"""Code points of ITU-T H.273: primaries, and transfers (16: PQ, 18: HLG)."""


@dataclass(frozen=True, slots=True)
class MatrixProfile:
    """A profile of three curves and a matrix (ICC.1:2022, F.3)."""

    curves: NDArray[np.float32]
    """[3, CURVE_STEPS]: the linear value for each encoded one."""
    matrix: NDArray[np.float64]
    """[3, 3]: linear values to XYZ under D50."""


def to_srgb(samples: Samples, profile: bytes | MatrixProfile | None) -> Image:
    """The colours [h, w, 3] uint8 in sRGB. A broken or unsuitable profile is ignored."""
    if isinstance(profile, MatrixProfile):
        return convert(samples.values, profile)
    if samples.values.dtype != np.uint8 and profile and samples.space in ("L", "RGB"):
        exact = matrix_profile(profile, samples.space)
        if exact is not None:
            return convert(samples.values, exact)
    values = to_uint8(samples.values)
    if samples.space == "RGB" and (not profile or keeps_colours(profile)):
        return np.ascontiguousarray(values)
    return _converted(values, samples.space, _transform(samples.space, profile))


def from_srgb(pixels: Image, profile: bytes | None) -> Image:
    """Colours [h, w, 3] of sRGB as they are written under an RGB profile; None: it is sRGB. White
    stays white. A broken profile is ignored, as `to_srgb` does.
    """
    if profile is None or keeps_colours(profile):
        return pixels
    try:
        target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        there = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), target, "RGB", "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return pixels
    result = _converted(pixels, "RGB", there)
    white = cv2.inRange(pixels, (255, 255, 255), (255, 255, 255))
    return cv2.copyTo(pixels, white, result).astype(np.uint8, copy=False)


def keeps_colours(profile: bytes) -> bool:
    """Whether an RGB profile is sRGB, within one level."""
    return len(profile) <= MAX_CACHED_PROFILE_BYTES and _keeps_colours(profile)


@lru_cache(maxsize=32)
def _keeps_colours(profile: bytes) -> bool:
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(17, -1, 3)
    there = _converted(grid, "RGB", _transform("RGB", profile))
    return bool(np.abs(there.astype(int) - grid).max() <= 1)


def _as_image(values: Image, space: str) -> PIL.Image.Image:
    if space == "L":
        return PIL.Image.fromarray(np.ascontiguousarray(values[..., 0]))
    if space == "RGB":
        return PIL.Image.fromarray(np.ascontiguousarray(values))
    height, width = values.shape[:2]
    return PIL.Image.frombytes(space, (width, height), np.ascontiguousarray(values).tobytes())


def _transform(space: str, profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """The way of L, RGB, CMYK or LAB to sRGB; None: the profile says none."""
    try:
        if space == "LAB":
            source: Any = ImageCms.createProfile("LAB")
        elif profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space.strip() != PROFILE_SPACES[space]:
                return None
        else:
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), space, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):  # OSError: the bytes are not a profile
        return None


def _converted(values: Image, space: str, way: ImageCms.ImageCmsTransform | None) -> Image:
    """Values [h, w, channels] as RGB [h, w, 3], in blocks: Pillow's images of a whole photo take 8
    bytes a pixel.
    """
    height, width = values.shape[:2]
    result = np.empty((height, width, 3), np.uint8)
    for rows in row_blocks(height, width):
        image = _as_image(values[rows], space)
        there = image.convert("RGB") if way is None else ImageCms.applyTransform(image, way)
        result[rows] = np.asarray(there)
    return result


def convert(values: NDArray[Any], profile: MatrixProfile) -> Image:
    """Samples [h, w, 1 or 3] as sRGB [h, w, 3] uint8, without rounding in between."""
    height, width, channels = values.shape
    result = np.empty((height, width, 3), np.uint8)
    scale = np.float32((CURVE_STEPS - 1) / FULL[values.dtype])
    matrix = (XYZ_TO_SRGB @ profile.matrix).astype(np.float32)
    for rows in row_blocks(height, width):
        steps = np.rint(values[rows].astype(np.float32) * scale).astype(np.uint16)
        linear = np.stack([profile.curves[n][steps[..., n % channels]] for n in range(3)], -1)
        light = (linear @ matrix.T).clip(0, 1)
        result[rows] = _srgb_curve()[np.rint(light * (CURVE_STEPS - 1)).astype(np.uint16)]
    return result


@lru_cache(maxsize=1)
def _srgb_curve() -> Image:
    """The sRGB value for each of CURVE_STEPS linear ones (IEC 61966-2-1)."""
    linear = np.linspace(0, 1, CURVE_STEPS)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(curved * 255), np.uint8)


def linear_of_srgb(values: NDArray[Any]) -> NDArray[Any]:
    """Linear values of sRGB ones in 0..1."""
    curved: NDArray[Any] = np.where(
        values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
    )
    return curved


def matrix_profile(profile: bytes, space: str) -> MatrixProfile | None:
    """The curves and the matrix of a profile for L or RGB; None if it has tables or is broken."""
    try:
        tags = tags_of(profile)
        kind = PROFILE_SPACES[space].encode().ljust(4) + b"XYZ "
        if profile[16:24] != kind or b"A2B0" in tags:
            return None
        if space == "L":
            curve = curve_of(tags[b"kTRC"])
            white = np.linalg.inv(XYZ_TO_SRGB)
            return MatrixProfile(np.stack([curve] * 3), white)
        columns = [xyz_of(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
        curves = [curve_of(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    except (KeyError, IndexError, ValueError, struct.error):
        return None
    return MatrixProfile(np.stack(curves), np.stack(columns, axis=1))


def coded_profile(primaries: int, transfer: int) -> MatrixProfile | None:
    """What HEIF and AVIF say of their colours by numbers (ITU-T H.273); None: as good as sRGB.

    Raises UnsupportedImageError for what needs a display of high dynamic range.
    """
    if transfer in HDR_TRANSFERS:
        raise UnsupportedImageError("The photo is HDR: its colours are made for special displays")
    if primaries not in (BT2020, P3) and transfer != LINEAR:
        return None
    x = np.linspace(0, 1, CURVE_STEPS)
    curve = (x if transfer == LINEAR else linear_of_srgb(x)).astype(np.float32)
    matrix = {BT2020: BT2020_TO_XYZ, P3: P3_TO_XYZ}.get(primaries, np.linalg.inv(XYZ_TO_SRGB))
    return MatrixProfile(np.stack([curve] * 3), matrix)


@lru_cache(maxsize=8)
def png_profile(gamma: float, chromaticity: tuple[float, ...] | None) -> MatrixProfile | None:
    """What the chunks gAMA and cHRM of a PNG say of its colours (PNG, 3rd edition, 11.3.2.1 and
    11.3.2.2); None: as good as sRGB, or no sensible values.

    `gamma`: exponent of the encoding; `chromaticity`: x and y of white, red, green, blue.
    """
    if not 0.1 < gamma < 10:
        return None
    matrix = np.linalg.inv(XYZ_TO_SRGB)
    if chromaticity and np.abs(np.subtract(chromaticity, SRGB_CHROMATICITY)).max() > 0.01:
        found = _matrix_of(chromaticity)
        if found is None:
            return None
        matrix = found
    elif abs(gamma * 2.2 - 1) < 0.05:
        return None
    curve = np.linspace(0, 1, CURVE_STEPS) ** (1 / gamma)
    return MatrixProfile(np.stack([curve.astype(np.float32)] * 3), matrix)


def _matrix_of(chromaticity: tuple[float, ...]) -> NDArray[np.float64] | None:
    """RGB of these primaries to XYZ under D50; None if they span no colours."""
    xy = np.reshape(chromaticity, (4, 2)).T.astype(np.float64)
    if (xy[1] < 1e-3).any():
        return None
    white, *_ = columns = (np.stack([xy[0], xy[1], 1 - xy.sum(axis=0)]) / xy[1]).T
    primaries = np.stack(columns[1:], axis=1)
    if abs(np.linalg.det(primaries)) < 1e-3:
        return None
    eye = BRADFORD @ white
    if (eye < 1e-3).any():
        return None
    adapted = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / eye) @ BRADFORD
    return np.asarray(adapted @ primaries @ np.diag(np.linalg.solve(primaries, white)))
