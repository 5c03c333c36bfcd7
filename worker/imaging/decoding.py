"""Decoding of image files to upright RGB pixels in sRGB.

Pillow reads the header first, for a fixed list of formats, and all limits are checked before any
pixel is decoded. OpenCV then decodes ordinary files: it is faster and releases the GIL. Pillow
decodes the files that OpenCV gets wrong: CMYK, 16-bit, palettes, transparency, wide-gamut ICC.
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
"""First bytes of the supported formats. An unreadable file that starts like this is damaged."""

_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker inside JPEG data, except byte stuffing, restarts and padding (ITU-T T.81, B.1.1)."""

MAX_SCANS = 200
"""Most scans of one JPEG. Encoders write about ten. A decoder visits every pixel once per scan: 50
megapixels with thousands of empty scans keep it busy for an hour."""

MAX_SIDE_PX = 1_000_000
"""Longest side that libpng reads; OpenCV's limit is 1,048,576. Without this check they report a
larger file as damaged."""

CV2_REDUCED_READ = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's flag for reading a JPEG at 1/N of its size."""

PNG_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
"""The chunks that OpenCV needs to decode a PNG. OpenCV unpacks every comment, up to 8 MB each, and
keeps it in memory, so all other chunks are removed first."""

BMP_RUN_LENGTH = (1, 2)
"""BMP compression types (RLE8, RLE4) that Pillow unpacks pixel by pixel in Python."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded photo, upright, with the size of the original."""

    image: Image
    """[h, w, 3] uint8 RGB; smaller than the original if it was decoded at a reduced scale."""
    width: int
    height: int
    """Width and height of the upright original."""


def decode(
    data: bytes,
    settings: Settings,
    *,
    min_side_px: int | None = None,
    keep_profile: bool = False,
) -> DecodedImage:
    """Decode an image file.

    `min_side_px` allows a JPEG to be decoded at the smallest DCT scale (1/2, 1/4, 1/8) whose
    shorter side still has that many pixels. `keep_profile` leaves an RGB photo in the colour space
    of its ICC profile; otherwise the pixels are converted to sRGB.

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
                f"{settings.max_image_pixels:,} in total"
            )
        if max(width, height) > MAX_SIDE_PX:
            raise TooManyPixelsError(
                f"The image has {width} x {height} pixels; the limit is {MAX_SIDE_PX:,} per side"
            )
        orientation = orientation_of(header)
    except (TooManyPixelsError, TooCostlyImageError):
        raise
    except UnidentifiedImageError as error:
        kind = TruncatedImageError if data.startswith(_MAGIC) else NotAnImageError
        raise kind from error
    except Exception as error:  # on a damaged header, Pillow's plug-ins raise any exception
        raise TruncatedImageError(f"The image's header is damaged: {error}") from error
    _refuse_truncated(data, header.format or "")
    _refuse_many_scans(data, header.format or "")
    image = (
        _decode_with_opencv(data, header, min_side_px)
        if _opencv_is_correct(header)
        else _decode_with_pillow(header, keep_profile)
    )
    image = _apply_orientation(image, orientation)
    if 5 <= orientation <= 8:  # these four include a rotation by 90°
        width, height = height, width
    return DecodedImage(image, width, height)


def pixels_to_decode(data: bytes, min_side_px: int | None = None) -> int:
    """The number of pixels that `decode` will return, from the header; 0 if it is not an image."""
    try:
        header = open_header(data)
    except Exception:  # `decode` reports what is wrong with the file
        return 0
    return header.width * header.height // _reduced_scale(header, min_side_px) ** 2


def _reduced_scale(header: PIL.Image.Image, min_side_px: int | None) -> int:
    """The denominator of the DCT scale that keeps `min_side_px` on the shorter side: 1, 2, 4, 8."""
    if not min_side_px or header.format not in ("JPEG", "MPO") or not _opencv_is_correct(header):
        return 1
    side = min(header.size)
    return next((scale for scale in (8, 4, 2) if side >= scale * min_side_px), 1)


def _opencv_is_correct(header: PIL.Image.Image) -> bool:
    """Whether OpenCV decodes the file correctly: 8-bit grey or RGB, in sRGB or without profile."""
    if header.format == "BMP" and header.info.get("compression") in BMP_RUN_LENGTH:
        return True
    if header.format == "TIFF" or header.mode not in ("RGB", "L") or "transparency" in header.info:
        return False
    profile = header.info.get("icc_profile")
    return not profile or b"sRGB" in profile or b"s\0R\0G\0B" in profile


def _decode_with_opencv(data: bytes, header: PIL.Image.Image, min_side_px: int | None) -> Image:
    flags = CV2_REDUCED_READ[_reduced_scale(header, min_side_px)]
    buffer = np.frombuffer(_png_pixels_only(data) if header.format == "PNG" else data, np.uint8)
    try:
        image = cv2.imdecode(buffer, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise TruncatedImageError(f"The image's data is damaged: {error.err}") from error
    if image is None:
        raise TruncatedImageError
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _decode_with_pillow(header: PIL.Image.Image, keep_profile: bool) -> Image:
    """Decode a file with Pillow: colour spaces, palettes and transparency become opaque RGB."""
    try:
        header.load()
        profile = header.info.get("icc_profile")
        image = _to_eight_bit(header)
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode in ("LA", "La", "PA", "RGBa"):
            image = image.convert("RGBA")
        if keep_profile and header.mode in ("RGB", "RGBA"):
            profile = None
        if profile and image.mode in ("RGB", "CMYK", "RGBA"):
            image = _to_srgb(image, profile)
        if "A" in image.getbands() or "transparency" in image.info:
            # Transparent areas become white background, as shops show such pictures.
            rgba = image if image.mode == "RGBA" else image.convert("RGBA")
            image = PIL.Image.new("RGB", image.size, "white")
            image.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(image.convert("RGB"))
    except (MemoryError, TooCostlyImageError):
        raise
    except Exception as error:  # on damaged data, Pillow's plug-ins raise any exception
        raise TruncatedImageError(f"The image's data is damaged: {error}") from error


def _to_eight_bit(image: PIL.Image.Image) -> PIL.Image.Image:
    """Scale 16-bit or float grey to 8 bits; Pillow's own conversion clips the values."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        return PIL.Image.fromarray((values / 257).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        scale = 255 / max(float(values.max()), 1e-6)
        return PIL.Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    return image


def _to_srgb(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """Convert to sRGB with the embedded ICC profile; ignore a broken or unsuitable profile."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colour = image.convert("RGB") if alpha else image
    try:
        converted = ImageCms.profileToProfile(
            colour,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):  # OSError: the bytes are not a profile
        return image
    result = converted or colour
    if alpha:
        result.putalpha(alpha)
    return result


def _apply_orientation(image: Image, orientation: int) -> Image:
    """Apply EXIF orientation 1–8 (Exif 2.32, 4.6.4 A)."""
    transformed = {
        2: lambda: image[:, ::-1],
        3: lambda: image[::-1, ::-1],
        4: lambda: image[::-1],
        5: lambda: image.transpose(1, 0, 2),
        6: lambda: image.transpose(1, 0, 2)[:, ::-1],
        7: lambda: image.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda: image.transpose(1, 0, 2)[::-1],
    }.get(orientation)
    return np.ascontiguousarray(transformed()) if transformed else image


def _refuse_truncated(data: bytes, kind: str) -> None:
    """Raise TruncatedImageError if the end of the file is missing.

    OpenCV fills the missing part with grey and reports no error.
    """
    if kind in ("JPEG", "MPO"):
        complete = data.rfind(b"\xff\xd9") > _jpeg_scan_start(data)
    elif kind == "PNG":
        complete = _png_is_complete(data)
    elif kind == "WEBP":
        complete = int.from_bytes(data[4:8], "little") + 8 <= len(data)
    elif kind == "BMP":
        complete = int.from_bytes(data[2:6], "little") <= len(data)
    else:
        complete = True  # Pillow decodes TIFF and notices a missing end
    if not complete:
        raise TruncatedImageError("The image ends too early: the file was cut short")


def _png_is_complete(data: bytes) -> bool:
    """Whether every chunk up to the end marker lies within the file.

    OpenCV trusts a chunk's length field and allocates up to 4 GB for a chunk that is missing.
    """
    return any(kind == b"IEND" for kind, _, _ in png_chunks(data))


def _png_pixels_only(data: bytes) -> bytes:
    """The PNG file reduced to PNG_PIXEL_CHUNKS."""
    chunks = list(png_chunks(data))
    if all(kind in PNG_PIXEL_CHUNKS for kind, _, _ in chunks):
        return data
    kept = [data[begin:end] for kind, begin, end in chunks if kind in PNG_PIXEL_CHUNKS]
    return data[:8] + b"".join(kept)


def _refuse_many_scans(data: bytes, kind: str) -> None:
    """Raise TooCostlyImageError for a JPEG with more than MAX_SCANS scans."""
    if kind not in ("JPEG", "MPO") or data.count(b"\xff\xda") <= MAX_SCANS:
        return
    # The count above may include chance matches in data after the image, such as a phone's video.
    if _jpeg_scans(data) > MAX_SCANS:
        raise TooCostlyImageError(
            f"The JPEG has more than {MAX_SCANS} scans; ordinary files have about ten"
        )


def _jpeg_scans(data: bytes) -> int:
    """Count the scans of the first image in the file, up to just above MAX_SCANS."""
    position, scans = _jpeg_scan_start(data), 0
    for _ in range(MOST_PARTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None or found[0] == b"\xff\xd9" or scans > MAX_SCANS:
            return scans
        scans += found[0] == b"\xff\xda"
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        position = found.end() + max(2, length)
    raise too_many_parts()


def _jpeg_scan_start(data: bytes) -> int:
    """The offset of the first scan. End markers before it belong to an embedded thumbnail."""
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
