"""Encoding of pixels as PNG, WebP, JPEG, AVIF, or a ZIP of colours and alpha.

PNG has an encoder of its own (`png_file`). OpenCV encodes JPEG without metadata; Pillow encodes
WebP, AVIF, and JPEG with an ICC profile, a resolution or EXIF. All of them release the GIL. A new
output format is added here.
"""

import io
import zipfile
from typing import Any

import cv2
import numpy as np
import PIL.Image
from PIL import features

from shared.errors import EncodingFailedError, FormatUnavailableError
from shared.options import ExtraOutput, Options
from shared.rendition import Format, Rendition
from worker.imaging.arrays import Image
from worker.imaging.metadata import NO_METADATA, Metadata
from worker.imaging.png_file import encode_png

AVIF_SPEED = 8
"""libavif speed, 0 to 10. Speed 6 takes twice as long and saves 4 % of the bytes."""

WEBP_METHOD = 3
"""libwebp's effort, 0 to 6. Its default, 4, takes 10 % longer and gives as many bytes; 2 saves a
quarter of the time for 5 % more bytes."""

MIN_QUALITY = 20
"""Lowest quality that `max_bytes` may lead to. Lower values show visible blocks."""


def encode(pixels: Image, rendition: Rendition, metadata: Metadata = NO_METADATA) -> bytes:
    """Encode [H, W, 4] RGBA, [H, W, 3] RGB or [H, W] grey, all uint8, in the rendition's format.

    With `max_bytes`, a binary search finds the highest quality that fits; if none fits, the result
    has MIN_QUALITY.

    Raises FormatUnavailableError, and EncodingFailedError when the encoder rejects the image.
    """
    data = _encode(pixels, rendition, rendition.quality, metadata)
    limit = rendition.max_bytes
    if limit is None or len(data) <= limit:
        return data
    low, high = MIN_QUALITY, rendition.quality - 1
    fitting: bytes | None = None
    while low <= high:
        middle = (low + high) // 2
        attempt = _encode(pixels, rendition, middle, metadata)
        if len(attempt) <= limit:
            fitting, low = attempt, middle + 1
        else:
            high = middle - 1
    return fitting or _encode(pixels, rendition, MIN_QUALITY, metadata)


def _encode(pixels: Image, rendition: Rendition, quality: int, metadata: Metadata) -> bytes:
    kind = rendition.format
    if kind is Format.ZIP:
        return _encode_zip(pixels, quality, metadata)
    if kind is Format.PNG:
        return encode_png(pixels, metadata)
    if kind in (Format.WEBP, Format.AVIF) or metadata:
        return _encode_with_pillow(pixels, rendition, quality, metadata)
    return _encode_jpeg(pixels, rendition, quality)


def _encode_jpeg(pixels: Image, rendition: Rendition, quality: int) -> bytes:
    """Encode [H, W, 3] RGB or [H, W] grey."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if _has_marketplace(rendition):
        # 4:4:4 keeps compression artefacts within 8 pixels of an edge; the marketplace rules check
        # the white pixels beyond that.
        parameters += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    try:
        encoded, data = cv2.imencode(".jpg", pixels, parameters)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise EncodingFailedError(f"{_failure(pixels, Format.JPEG)}: {error.err}") from error
    if not encoded:
        raise EncodingFailedError(_failure(pixels, Format.JPEG))
    return data.tobytes()


def _failure(pixels: Image, kind: Format) -> str:
    return f"An image of {pixels.shape[1]} × {pixels.shape[0]} pixels can't be encoded as {kind}"


def _has_marketplace(rendition: Rendition) -> bool:
    return isinstance(rendition, Options | ExtraOutput) and rendition.market is not None


def _encode_with_pillow(
    pixels: Image, rendition: Rendition, quality: int, metadata: Metadata
) -> bytes:
    kind = rendition.format
    if kind is Format.AVIF and not features.check("avif"):
        raise FormatUnavailableError("This worker's Pillow was built without AVIF")
    dpi_in_exif = kind in (Format.AVIF, Format.WEBP)
    parameters: dict[str, Any] = {"quality": quality}
    if kind is Format.AVIF:
        parameters |= {"speed": AVIF_SPEED, "max_threads": 1}
    elif kind is Format.WEBP:
        parameters["method"] = WEBP_METHOD
    elif kind is Format.JPEG and _has_marketplace(rendition):
        parameters["subsampling"] = "4:4:4"
    if metadata.icc:
        parameters["icc_profile"] = metadata.icc
    if exif := metadata.exif_bytes(with_dpi=dpi_in_exif):
        parameters["exif"] = exif
    if metadata.dpi and not dpi_in_exif:
        parameters["dpi"] = (metadata.dpi, metadata.dpi)
    buffer = io.BytesIO()
    try:
        PIL.Image.fromarray(pixels).save(buffer, kind.value, **parameters)
    except (OSError, ValueError, RuntimeError) as error:  # Pillow plug-ins raise any of these
        raise EncodingFailedError(f"{_failure(pixels, kind)}: {error}") from error
    return buffer.getvalue()


def _encode_zip(pixels: Image, quality: int, metadata: Metadata) -> bytes:
    """A ZIP of `color.jpg` and `alpha.png`, stored without further compression.

    It has no time stamps: the same pixels give the same bytes.
    """
    colour = np.ascontiguousarray(pixels[..., :3])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, plane, kind in (
            ("color.jpg", colour, Format.JPEG),
            ("alpha.png", np.ascontiguousarray(pixels[..., 3]), Format.PNG),
        ):
            part = Rendition.model_construct(format=kind)
            kept = metadata if kind is Format.JPEG else NO_METADATA
            archive.writestr(zipfile.ZipInfo(name), _encode(plane, part, quality, kept))
    return buffer.getvalue()
