"""The header of a Photoshop document: what its merged picture is, and where it lies.

Layers and resources are not read, except the ICC profile and what says whether the merged picture
is there and whether it has transparency (Adobe Photoshop File Formats Specification).
"""

import io
import struct
from dataclasses import dataclass

import PIL.Image

from shared.errors import UnsupportedImageError

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""The colour spaces that are read: grey, RGB, CMYK."""

ICC_PROFILE, VERSION_INFO = 1039, 1057
MAX_CHANNELS = 56
MAX_SIDE_PX = 30_000


@dataclass(frozen=True, slots=True)
class PsdPicture:
    """The merged picture of a document."""

    width: int
    height: int
    channels: int
    bits: int
    space: str
    has_alpha: bool
    """Whether the channel behind the colours is their transparency, not a saved selection."""
    profile: bytes | None
    start: int
    """Offset of the picture's data."""


def read_psd(data: bytes) -> PsdPicture:
    """Raises UnsupportedImageError; SyntaxError or struct.error for a damaged file."""
    version, channels, height, width, bits, mode = struct.unpack_from(">4xH6xHIIHH", data)
    if version != 1 or not 1 <= channels <= MAX_CHANNELS or not max(width, height) > 0:
        raise SyntaxError("damaged header of a PSD")
    if max(width, height) > MAX_SIDE_PX:
        raise SyntaxError("a PSD has at most 30,000 pixels a side")
    if mode not in MODES or bits not in (8, 16):
        raise UnsupportedImageError(
            "The Photoshop document is not in greyscale, RGB or CMYK with 8 or 16 bits"
        )
    position = 26 + 4 + _length(data, 26)
    resources_end = position + 4 + _length(data, position)
    resources = _resources(data[position + 4 : resources_end])
    if resources.get(VERSION_INFO, b"\0\0\0\0\1")[4:5] == b"\0":
        raise UnsupportedImageError(
            "The Photoshop document holds only its layers: it was saved without compatibility"
        )
    layers = _length(data, resources_end)
    has_alpha = False
    if layers >= 6 and _length(data, resources_end + 4):
        (count,) = struct.unpack_from(">h", data, resources_end + 8)
        has_alpha = count < 0
    start = resources_end + 4 + layers
    return PsdPicture(
        width, height, channels, bits, MODES[mode], has_alpha, resources.get(ICC_PROFILE), start
    )


def open_psd(data: bytes) -> PIL.Image.Image:
    """A header as Pillow gives it for other formats, with no pixels. Raises as `read_psd`."""
    picture = read_psd(data)
    first = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 1, picture.height, picture.width, 8, 1)
    header = PIL.Image.open(io.BytesIO(first + bytes(4 * 3 + 2)), formats=("PSD",))
    if picture.profile:
        header.info["icc_profile"] = picture.profile
    return header


def _length(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def _resources(block: bytes) -> dict[int, bytes]:
    """The resources by their number, as far as the block is whole."""
    found: dict[int, bytes] = {}
    position = 0
    while block[position : position + 4] == b"8BIM" and len(block) >= position + 12:
        (number,) = struct.unpack_from(">H", block, position + 4)
        position += 6 + (block[position + 6] + 2) // 2 * 2
        size = int.from_bytes(block[position : position + 4], "big")
        found[number] = block[position + 4 : position + 4 + size]
        position += 4 + size + size % 2
    return found
