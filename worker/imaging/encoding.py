"""Encoding of pixels as PNG, WebP, JPEG, AVIF, or a ZIP of colours and alpha.

PNG has an encoder of its own (`png_file`). OpenCV encodes JPEG without metadata; Pillow encodes
WebP, AVIF, and JPEG with an ICC profile, a resolution or EXIF. All of them release the GIL. A new
output format is added here.
"""

import io
import math
import zipfile
from collections.abc import Callable
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

LARGE_PIXELS = 16_000_000
"""Above it an encoding may take seconds, and fewer qualities are tried."""

MOST_TRIES, MOST_TRIES_IF_LARGE = 10, 5
"""Qualities that are tried for `max_bytes`, after the one asked for. Usually the third is the last,
at most the eighth. Five find the best one within 2 of 99 in 100 times (4 pictures in 3 formats,
limits of 5 to 97 % of the first file)."""

FINENESS_POWER = 0.7
"""The power of the fineness by which files grow, before two sizes are known."""


def encode(
    pixels: Image,
    rendition: Rendition,
    metadata: Metadata = NO_METADATA,
    goes_on: Callable[[], None] = lambda: None,
) -> bytes:
    """Encode [H, W, 4] RGBA, [H, W, 3] RGB or [H, W] grey, all uint8, in the rendition's format.

    With `max_bytes`, a search finds the highest quality that fits, or one near it if the picture is
    large; if none fits, the result has MIN_QUALITY, or the quality asked for if that is lower.
    `goes_on` is called before each encoding, of which each may take long.

    Raises FormatUnavailableError, and EncodingFailedError when the encoder rejects the image.
    """

    def encoded(quality: int) -> bytes:
        goes_on()
        return _encode(pixels, rendition, quality, metadata)

    data = encoded(rendition.quality)
    limit = rendition.max_bytes
    if limit is None or len(data) <= limit:
        return data
    is_large = pixels.shape[0] * pixels.shape[1] > LARGE_PIXELS
    tries = MOST_TRIES_IF_LARGE if is_large else MOST_TRIES
    return _fitted(encoded, rendition.quality, data, limit, tries)


def _fitted(
    encoded: Callable[[int], bytes], quality: int, data: bytes, limit: int, tries: int
) -> bytes:
    """The file of the highest quality that fits, found in at most `tries` tries and one more.
    `data` is the file of `quality`, which is too large.

    A file grows nearly with a power of the fineness, so two sizes tell where it meets the limit. If
    two tries were on the same side of it, the next one is a quarter nearer to the other end.
    """
    fine = _log_fineness
    lowest = min(MIN_QUALITY, quality)
    above, above_bytes = quality, len(data)
    below, below_bytes = lowest - 1, 0  # bytes of 0: nothing fits yet
    fitting, smallest, power, side = b"", data, FINENESS_POWER, 0
    for _ in range(tries):
        if above - below == 1:
            break
        if below_bytes:
            power = math.log(above_bytes / below_bytes) / (fine(above) - fine(below))
        middle = (below + above) // 2
        if power > 0:
            meets = fine(above) - math.log(above_bytes / limit) / power
            middle = max((one for one in range(below + 1, above) if fine(one) <= meets), default=0)
            middle = max(middle, below + 1)
        if side >= 2:
            middle = min(above - 1, middle + max(1, (above - middle) // 4))
        elif side <= -2:
            middle = max(below + 1, middle - max(1, (middle - below) // 4))
        attempt = encoded(middle)
        if len(attempt) <= limit:
            fitting, below, below_bytes, side = attempt, middle, len(attempt), max(1, side + 1)
        else:
            power = math.log(above_bytes / len(attempt)) / (fine(above) - fine(middle))
            smallest, above, above_bytes, side = attempt, middle, len(attempt), min(-1, side - 1)
    if fitting or above == lowest:
        return fitting or smallest
    return encoded(lowest)


def _log_fineness(quality: int) -> float:
    """The logarithm of how finely libjpeg quantises at a quality, 1 to 100, without a constant.
    Files of the highest qualities grow less than by that, so 8 is added to the steps (in percent).
    WebP and AVIF are alike.
    """
    return -math.log((5_000 / quality if quality < 50 else 200 - 2 * quality) + 8)


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
