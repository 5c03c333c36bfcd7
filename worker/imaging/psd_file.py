"""Writes Photoshop documents: layers with masks, and the merged picture.

All numbers are big-endian, all samples have 8 bits and are packed by rows with PackBits (Adobe
Photoshop File Formats Specification, 2019; the sections are named beside their code).
"""

import io
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import PIL.Image

from shared.errors import EncodingFailedError
from worker.imaging.arrays import Image
from worker.imaging.metadata import Metadata

RGB_MODE, PACK_BITS = 3, 1
TRANSPARENCY, MASK = -1, -2
"""Ids of a layer's channels besides 0, 1, 2: red, green, blue."""

RESOLUTION, ICC_PROFILE, VERSION_INFO, EXIF = 1005, 1039, 1057, 1058
"""Ids of image resources."""

PIXELS_PER_INCH, INCHES = 1, 1
VISIBLE_FLAGS, HIDDEN_FLAG = 0b1000, 0b10
WHITE = 255

BYTE_COUNTS, OFFSETS, COMPRESSION = 279, 273, 32_773
"""Tags and the value of TIFF for strips packed with PackBits."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the document's size."""

    name: str
    colours: Image
    """[H, W, 3] uint8 RGB."""
    alpha: Image | None = None
    """[H, W] uint8: its transparency; None: it is opaque."""
    mask: Image | None = None
    """[H, W] uint8: a mask that a person can change; 0 hides."""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class _Packed:
    """A plane that is packed: the length of each row, and all rows behind each other."""

    lengths: bytes
    rows: bytes

    @property
    def size(self) -> int:
        return len(self.lengths) + len(self.rows)


def encode_psd(merged: Image, layers: Iterable[Layer], metadata: Metadata) -> bytes:
    """A document with these layers, the lowest one first. `merged` is what they show together:
    [H, W, 3] RGB or [H, W, 4] straight RGBA, uint8.

    Layers are taken one after the other; besides the packed bytes, one of them is in memory. Raises
    EncodingFailedError.
    """
    height, width, channels = merged.shape
    records, planes, count = bytearray(), deque[_Packed](), 0
    for layer in layers:
        packed = dict(_channels(layer))
        records += _record(layer, packed)
        planes.extend(packed.values())
        count += 1
    out = io.BytesIO()
    out.write(struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, 8, RGB_MODE))
    out.write(struct.pack(">I", 0))  # the colour mode data of RGB are empty
    out.write(_sized(b"".join(_resources(metadata))))
    # Section "Layer info": a negative count says that the merged picture is transparent in places.
    head = struct.pack(">h", -count if channels == 4 else count) + bytes(records)
    length = len(head) + sum(2 + plane.size for plane in planes)
    padding = length % 2
    out.write(struct.pack(">II", length + padding + 8, length + padding) + head)
    while planes:  # what is written is released
        plane = planes.popleft()
        out.write(struct.pack(">H", PACK_BITS))
        out.write(plane.lengths)
        out.write(plane.rows)
    out.write(bytes(padding) + struct.pack(">I", 0))  # no global mask
    _write_merged(out, merged)
    return out.getvalue()


def _channels(layer: Layer) -> Iterator[tuple[int, _Packed]]:
    """The channels of a layer by their ids, packed."""
    if layer.alpha is not None:
        yield TRANSPARENCY, _pack(layer.alpha)
    for channel in range(3):
        yield channel, _pack(layer.colours[..., channel])
    if layer.mask is not None:
        yield MASK, _pack(layer.mask)


def _record(layer: Layer, packed: dict[int, _Packed]) -> bytes:
    """The section "Layer records": place, channels, blending, mask and name."""
    height, width = layer.colours.shape[:2]
    place = struct.pack(">4i", 0, 0, height, width)
    listed = b"".join(
        struct.pack(">hI", channel, 2 + plane.size) for channel, plane in packed.items()
    )
    flags = VISIBLE_FLAGS | (HIDDEN_FLAG if layer.hidden else 0)
    blending = struct.pack(">4s4sBBBx", b"8BIM", b"norm", 255, 0, flags)
    mask = place + struct.pack(">BB2x", 0, 0) if layer.mask is not None else b""
    extra = _sized(mask) + _sized(b"") + _pascal(layer.name, 4) + _unicode_name(layer.name)
    return place + struct.pack(">H", len(packed)) + listed + blending + _sized(extra)


def _unicode_name(name: str) -> bytes:
    text = name.encode("utf-16-be")
    value = struct.pack(">I", len(text) // 2) + text
    value += bytes(-len(value) % 4)
    return b"8BIMluni" + _sized(value)


def _resources(metadata: Metadata) -> Iterator[bytes]:
    """The section "Image resources": what the pixels do not say."""
    if metadata.dpi:
        fixed = round(metadata.dpi * 65_536)
        value = struct.pack(">IHHIHH", *2 * (fixed, PIXELS_PER_INCH, INCHES))
        yield _resource(RESOLUTION, value)
    if metadata.icc:
        yield _resource(ICC_PROFILE, metadata.icc)
    if exif := metadata.exif_bytes(with_dpi=False):
        yield _resource(EXIF, exif.removeprefix(b"Exif\0\0"))
    writer = struct.pack(">I", 7) + "matting".encode("utf-16-be")
    yield _resource(VERSION_INFO, struct.pack(">IB", 1, True) + 2 * writer + struct.pack(">I", 1))


def _resource(number: int, value: bytes) -> bytes:
    padded = _sized(value) + bytes(len(value) % 2)
    return struct.pack(">4sH", b"8BIM", number) + _pascal("", 2) + padded


def _write_merged(out: io.BytesIO, merged: Image) -> None:
    """The section "Image data": the rows of all planes, behind the lengths of all rows. Where the
    picture is transparent, it lies on white, as Photoshop writes it.
    """
    alpha = merged[..., 3] if merged.shape[2] == 4 else None
    packed = [_pack(_on_white(merged[..., channel], alpha)) for channel in range(3)]
    if alpha is not None:
        packed.append(_pack(alpha))
    out.write(struct.pack(">H", PACK_BITS))
    for plane in packed:
        out.write(plane.lengths)
    for plane in packed:
        out.write(plane.rows)


def _on_white(plane: Image, alpha: Image | None) -> Image:
    if alpha is None:
        return plane
    shown = cv2.multiply(np.ascontiguousarray(plane), np.ascontiguousarray(alpha), scale=1 / 255)
    return cv2.add(shown, cv2.bitwise_not(np.ascontiguousarray(alpha))).astype(np.uint8, copy=False)


def _pack(plane: Image) -> _Packed:
    """Pack a plane [H, W] by rows. OpenCV's TIFF encoder does it: the strips of such a file hold
    one row each.
    """
    parameters = [cv2.IMWRITE_TIFF_COMPRESSION, COMPRESSION, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 1]
    try:
        encoded, data = cv2.imencode(".tiff", np.ascontiguousarray(plane), parameters)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise EncodingFailedError(f"A layer can't be packed: {error.err}") from error
    if not encoded:
        raise EncodingFailedError("A layer can't be packed")
    file = data.tobytes()
    with PIL.Image.open(io.BytesIO(file)) as tiff:
        tags = tiff.tag_v2  # type: ignore[attr-defined]  # only TIFF files have it
        lengths, start = np.array(tags[BYTE_COUNTS], ">u2"), tags[OFFSETS][0]
    return _Packed(lengths.tobytes(), file[start : start + int(lengths.sum(dtype=np.int64))])


def _sized(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _pascal(text: str, multiple: int) -> bytes:
    """A text behind its length, padded."""
    short = text.encode("ascii", "replace")[:255]
    return (bytes([len(short)]) + short).ljust(-(-(len(short) + 1) // multiple) * multiple, b"\0")
