"""Pixels → bytes: PNG, WebP, JPEG, AVIF and the ZIP of colours and matte.

OpenCV encodes what carries nothing but pixels: it is faster and releases the GIL. What has a
profile, a resolution or EXIF, and AVIF, goes through Pillow.
"""

import io
import zipfile
from typing import Any

import cv2
import numpy as np
import PIL.Image
from PIL import features

from shared.errors import FormatUnavailableError
from shared.options import ExtraOutput, Options
from shared.rendition import Format, Rendition
from worker.imaging.arrays import Image
from worker.imaging.metadata import Metadata

PNG_LEVEL = 1
"""zlib level 1 with the UP filter: 2–4 times as fast as OpenCV's default at 2–10 % more bytes
(tests/benchmarks/stages)."""

AVIF_SPEED = 8
"""Of 0–10: at 6 it takes twice as long and saves 4 % of the bytes."""

LOWEST_QUALITY = 20
"""`max_bytes` does not go below: blocks would show on any screen."""


NOTHING = Metadata()


def encode(pixels: Image, rendition: Rendition, metadata: Metadata = NOTHING) -> bytes:
    """Encode [H, W, 4] RGBA, [H, W, 3] RGB or [H, W] grey, all uint8, in the rendition's format;
    with `max_bytes`, at the highest quality that fits (the lowest one when none does).

    Raises FormatUnavailableError.
    """
    data = _encode(pixels, rendition, rendition.quality, metadata)
    limit = rendition.max_bytes
    if limit is None or len(data) <= limit:
        return data
    low, high = LOWEST_QUALITY, rendition.quality - 1
    fitting: bytes | None = None
    while low <= high:
        middle = (low + high) // 2
        attempt = _encode(pixels, rendition, middle, metadata)
        if len(attempt) <= limit:
            fitting, low = attempt, middle + 1
        else:
            high = middle - 1
    return fitting or _encode(pixels, rendition, LOWEST_QUALITY, metadata)


def _encode(pixels: Image, rendition: Rendition, quality: int, metadata: Metadata) -> bytes:
    kind = rendition.format
    if kind is Format.ZIP:
        return _zip(pixels, quality, metadata)
    if kind is Format.AVIF or metadata:
        return _pillow(pixels, rendition, quality, metadata)
    if pixels.ndim == 3:
        to_bgr = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        pixels = cv2.cvtColor(pixels, to_bgr).astype(np.uint8, copy=False)
    if kind is Format.PNG:
        parameters = [
            cv2.IMWRITE_PNG_COMPRESSION,
            PNG_LEVEL,
            cv2.IMWRITE_PNG_FILTER,
            cv2.IMWRITE_PNG_FILTER_UP,
        ]
    elif kind is Format.WEBP:
        parameters = [cv2.IMWRITE_WEBP_QUALITY, quality]
    else:
        parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
        if _is_for_a_shop(rendition):
            # Colour in full resolution: what smears then stays within eight pixels of the edge.
            parameters += [
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
            ]
    _, data = cv2.imencode(f".{kind.extension}", pixels, parameters)
    return data.tobytes()


def _is_for_a_shop(rendition: Rendition) -> bool:
    return isinstance(rendition, Options | ExtraOutput) and rendition.market is not None


def _pillow(pixels: Image, rendition: Rendition, quality: int, metadata: Metadata) -> bytes:
    kind = rendition.format
    if kind is Format.AVIF and not features.check("avif"):
        raise FormatUnavailableError("This worker's Pillow was built without AVIF")
    no_place_for_dpi = kind in (Format.AVIF, Format.WEBP)
    parameters: dict[str, Any] = {"quality": quality}
    if kind is Format.PNG:
        parameters = {"compress_level": PNG_LEVEL}
    elif kind is Format.AVIF:
        parameters |= {"speed": AVIF_SPEED, "max_threads": 1}
    elif kind is Format.JPEG and _is_for_a_shop(rendition):
        parameters["subsampling"] = "4:4:4"
    if metadata.icc:
        parameters["icc_profile"] = metadata.icc
    if exif := metadata.exif_bytes(with_dpi=no_place_for_dpi):
        parameters["exif"] = exif
    if metadata.dpi and not no_place_for_dpi:
        parameters["dpi"] = (metadata.dpi, metadata.dpi)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, kind.value, **parameters)
    return buffer.getvalue()


def _zip(pixels: Image, quality: int, metadata: Metadata) -> bytes:
    """`color.jpg` and `alpha.png`, stored: both are compressed already. No time stamps, so that
    the same picture is the same file.
    """
    colour = np.ascontiguousarray(pixels[..., :3])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, plane, kind in (
            ("color.jpg", colour, Format.JPEG),
            ("alpha.png", np.ascontiguousarray(pixels[..., 3]), Format.PNG),
        ):
            part = Rendition.model_construct(format=kind)
            kept = metadata if kind is Format.JPEG else NOTHING
            archive.writestr(zipfile.ZipInfo(name), _encode(plane, part, quality, kept))
    return buffer.getvalue()
