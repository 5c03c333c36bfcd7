"""Bytes → pixels: what a customer's file holds, upright and in sRGB.

The header is read first (Pillow, lazily, an allow-list of formats): limits are checked before a
pixel is decoded. Ordinary files then go through OpenCV, which is faster and releases the GIL; what
OpenCV would get wrong (CMYK, 16 bit, palettes, transparency, wide-gamut ICC) through Pillow.
"""

import io
import re
from dataclasses import dataclass

import cv2
import numpy as np
import PIL.Image
from PIL import ImageCms, UnidentifiedImageError

from shared.errors import (
    EmptyFileError,
    FileTooLargeError,
    NotAnImageError,
    TooCostlyImageError,
    TooManyPixelsError,
    TruncatedImageError,
)
from shared.photo_header import (
    MOST_PARTS,
    open_header,
    orientation_of,
    png_chunks,
    too_many_parts,
)
from shared.settings import Settings
from worker.imaging.arrays import Image

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*")
"""How files of these formats begin: one that does and still can't be read is damaged."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In a JPEG's coded data: not a stuffed byte, no restart, no padding (ITU-T T.81, B.1.1)."""

MOST_SCANS = 200
"""Of one JPEG. Each pass of a progressive file goes over all its pixels; encoders write about ten,
and a file of 50 megapixels with thousands of empty ones keeps a decoder busy for an hour."""

READ = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""How OpenCV reads a JPEG at these parts of its size."""

PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
"""What OpenCV needs of an ordinary PNG. It would unpack every comment, 8 MB each, and keep it."""

RUN_LENGTHS = (1, 2)
"""BMP's kinds of compression that Pillow unpacks in Python, pixel by pixel."""


@dataclass(frozen=True)
class DecodedImage:
    """A photo as it is meant to be seen."""

    image: Image
    """[h, w, 3] uint8 RGB; smaller than the original when it was decoded at a reduced scale."""
    width: int
    height: int
    """Of the upright original."""


def decode(
    data: bytes,
    settings: Settings,
    *,
    enough_px: int | None = None,
    keep_profile: bool = False,
) -> DecodedImage:
    """Decode a file. With `enough_px`, a JPEG is decoded at the smallest DCT scale (1/2, 1/4, 1/8)
    that leaves its shorter side at least that long. `keep_profile`: pixels of an RGB photo with
    an ICC profile are not converted to sRGB.

    Raises EmptyFileError, FileTooLargeError, NotAnImageError, TooManyPixelsError,
    TooCostlyImageError, TruncatedImageError.
    """
    if not data:
        raise EmptyFileError
    if len(data) > settings.max_image_bytes:
        raise FileTooLargeError(
            f"The file has {len(data):,} bytes; the limit is {settings.max_image_bytes:,}"
        )
    try:
        header = open_header(data)
        width, height = header.size
        if width * height > settings.max_image_pixels:
            raise TooManyPixelsError(
                f"The image has {width} x {height} pixels; the limit is "
                f"{settings.max_image_pixels:,} in all"
            )
        orientation = orientation_of(header)
    except (TooManyPixelsError, TooCostlyImageError):
        raise
    except UnidentifiedImageError as error:
        kind = TruncatedImageError if data.startswith(_MAGIC) else NotAnImageError
        raise kind from error
    except Exception as error:  # Pillow's plug-ins raise whatever a damaged header leads to
        raise TruncatedImageError(f"The image's header is damaged: {error}") from error
    _refuse_cut_short(data, header.format or "")
    _refuse_many_scans(data, header.format or "")
    image = (
        _fast(data, header, enough_px) if _is_ordinary(header) else _careful(header, keep_profile)
    )
    image = _upright(image, orientation)
    if 5 <= orientation <= 8:  # these four turn by a quarter; others are damage
        width, height = height, width
    return DecodedImage(image, width, height)


def pixels_to_decode(data: bytes, enough_px: int | None = None) -> int:
    """How many pixels `decode` makes of the file, by its header; 0 for what is no image."""
    try:
        header = open_header(data)
    except Exception:  # `decode` says what is wrong with it
        return 0
    return header.width * header.height // _reduction(header, enough_px) ** 2


def _reduction(header: PIL.Image.Image, enough_px: int | None) -> int:
    """The DCT scale (1/this) that leaves the shorter side at least `enough_px` long."""
    if not enough_px or header.format not in ("JPEG", "MPO") or not _is_ordinary(header):
        return 1
    side = min(header.size)
    return next((scale for scale in (8, 4, 2) if side >= scale * enough_px), 1)


def _is_ordinary(header: PIL.Image.Image) -> bool:
    """Whether OpenCV decodes this rightly: 8-bit grey or RGB, in sRGB or nothing said."""
    if header.format == "BMP" and header.info.get("compression") in RUN_LENGTHS:
        return True
    if header.format == "TIFF" or header.mode not in ("RGB", "L") or "transparency" in header.info:
        return False
    profile = header.info.get("icc_profile")
    return not profile or b"sRGB" in profile or b"s\0R\0G\0B" in profile


def _fast(data: bytes, header: PIL.Image.Image, enough_px: int | None) -> Image:
    flags = READ[_reduction(header, enough_px)]
    buffer = np.frombuffer(_pixels_of_png(data) if header.format == "PNG" else data, np.uint8)
    try:
        image = cv2.imdecode(buffer, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise TruncatedImageError(f"The image's data is damaged: {error.err}") from error
    if image is None:
        raise TruncatedImageError
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _careful(header: PIL.Image.Image, keep_profile: bool) -> Image:
    """Everything else, by way of Pillow."""
    try:
        header.load()
        profile = header.info.get("icc_profile")
        image = _eight_bit(header)
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode in ("LA", "La", "PA", "RGBa"):
            image = image.convert("RGBA")
        if keep_profile and header.mode in ("RGB", "RGBA"):
            profile = None
        if profile and image.mode in ("RGB", "CMYK", "RGBA"):
            image = _to_srgb(image, profile)
        if "A" in image.getbands() or "transparency" in image.info:
            # Shops show such pictures on white: what was cut away before is background now.
            rgba = image if image.mode == "RGBA" else image.convert("RGBA")
            image = PIL.Image.new("RGB", image.size, "white")
            image.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(image.convert("RGB"))
    except (MemoryError, TooCostlyImageError):
        raise
    except Exception as error:  # Pillow's plug-ins raise whatever damaged data leads to
        raise TruncatedImageError(f"The image's data is damaged: {error}") from error


def _eight_bit(image: PIL.Image.Image) -> PIL.Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion would clip it."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        return PIL.Image.fromarray((values / 257).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        scale = 255 / max(float(values.max()), 1e-6)
        return PIL.Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    return image


def _to_srgb(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """Convert by the embedded profile; one that is broken or does not fit is ignored."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colour = image.convert("RGB") if alpha else image
    try:
        converted = ImageCms.profileToProfile(
            colour,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):  # OSError: it is no profile at all
        return image
    result = converted or colour
    if alpha:
        result.putalpha(alpha)
    return result


def _upright(image: Image, orientation: int) -> Image:
    """Apply EXIF orientation 1–8 (Exif 2.32, 4.6.4 A)."""
    turned = {
        2: lambda: image[:, ::-1],
        3: lambda: image[::-1, ::-1],
        4: lambda: image[::-1],
        5: lambda: image.transpose(1, 0, 2),
        6: lambda: image.transpose(1, 0, 2)[:, ::-1],
        7: lambda: image.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda: image.transpose(1, 0, 2)[::-1],
    }.get(orientation)
    return np.ascontiguousarray(turned()) if turned else image


def _refuse_cut_short(data: bytes, kind: str) -> None:
    """OpenCV fills what is missing of a cut file with grey and says nothing: look for the end."""
    if kind in ("JPEG", "MPO"):
        whole = data.rfind(b"\xff\xd9") > _jpeg_scan_start(data)
    elif kind == "PNG":
        whole = _png_is_whole(data)
    elif kind == "WEBP":
        whole = int.from_bytes(data[4:8], "little") + 8 <= len(data)
    elif kind == "BMP":
        whole = int.from_bytes(data[2:6], "little") <= len(data)
    else:
        whole = True  # TIFF goes through Pillow, which notices
    if not whole:
        raise TruncatedImageError("The image ends too early: the file was cut short")


def _png_is_whole(data: bytes) -> bool:
    """Whether every chunk fits into the file, up to the end marker: OpenCV believes a length, and
    takes up to 4 GB for a chunk that is not there.
    """
    return any(kind == b"IEND" for kind, _, _ in png_chunks(data))


def _pixels_of_png(data: bytes) -> bytes:
    """The file without what says nothing of its pixels."""
    chunks = list(png_chunks(data))
    if all(kind in PIXEL_CHUNKS for kind, _, _ in chunks):
        return data
    kept = [data[begin:end] for kind, begin, end in chunks if kind in PIXEL_CHUNKS]
    return data[:8] + b"".join(kept)


def _refuse_many_scans(data: bytes, kind: str) -> None:
    if kind not in ("JPEG", "MPO") or data.count(b"\xff\xda") <= MOST_SCANS:
        return
    # What follows the picture's end (phones put a film there) may hold those two bytes by chance.
    if _jpeg_scans(data) > MOST_SCANS:
        raise TooCostlyImageError(
            f"The JPEG has more than {MOST_SCANS} scans; encoders write about ten"
        )


def _jpeg_scans(data: bytes) -> int:
    """How many scans the first picture has; counting ends above the limit."""
    position, scans = _jpeg_scan_start(data), 0
    for _ in range(MOST_PARTS):
        found = _MARKER.search(data, position)
        if found is None or found[0] == b"\xff\xd9" or scans > MOST_SCANS:
            return scans
        scans += found[0] == b"\xff\xda"
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + max(2, length)
    raise too_many_parts()


def _jpeg_scan_start(data: bytes) -> int:
    """Where the first scan begins: an end marker before it belongs to an embedded thumbnail."""
    position = 2
    for _ in range(MOST_PARTS):
        if position + 4 > len(data):
            return len(data)
        if data[position] != 0xFF:
            return position
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
        elif marker == 0xDA:
            return position
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise too_many_parts()
