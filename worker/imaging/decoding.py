"""Decoding of image files to upright RGB pixels in sRGB, and their alpha.

The header is read first, and all limits are checked before any pixel is decoded. libjpeg-turbo and
OpenCV then decode ordinary files: they are faster and release the GIL. Pillow and libtiff decode
the files that these get wrong: CMYK, palettes, transparency, TIFF, HEIC, AVIF.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from shared.errors import (
    EmptyFileError,
    FileTooLargeError,
    MattingError,
    TooManyPixelsError,
    TruncatedImageError,
)
from shared.photo_header import ORIENTATION_TAG, open_header, orientation_of
from shared.png_chunks import END_CHUNK, png_chunks
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.colours import MatrixProfile, coded_profile, png_profile, to_srgb
from worker.imaging.completeness import refuse_incomplete
from worker.imaging.jpeg_file import decode_jpeg
from worker.imaging.psd_samples import read_psd_samples
from worker.imaging.resample import small_copy
from worker.imaging.samples import Samples, read_with_pillow, to_uint8, unmultiplied
from worker.imaging.tiff_samples import read_tiff

Pixel = TypeVar("Pixel", bound=np.generic)

JPEG_FORMATS = frozenset({"JPEG", "MPO"})

OPENCV_FORMATS = frozenset({"JPEG", "MPO", "PNG", "WEBP"})

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

CONVERTED = 3
"""A photo that Pillow or libtiff decodes takes as much memory as this many others. Measured at its
peak, for each pixel: 10 to 22 bytes for palettes, 16 bits and CMYK, 30 with transparency. An
ordinary photo takes 3 to 7 while it is decoded, and 8 to 11 while it is finished.
"""

ROTATED = range(5, 9)
"""The EXIF orientations that include a rotation by 90°."""

WHITE = 255
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class DecodedImage:
    """A decoded photo, upright, with the size of the original."""

    image: Image
    """[h, w, 3] uint8 RGB, on white where the photo is transparent; smaller than the original if it
    was decoded at a reduced scale."""
    width: int
    height: int
    """Width and height of the upright original."""
    alpha: Image | None = None
    """[h, w] uint8: the photo's own alpha; None if it is opaque."""

    @cached_property
    def small(self) -> Image:
        """The image's small_copy, which refining and edge colours share."""
        return small_copy(self.image)


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

    Raises EmptyFileError, FileTooLargeError, NotAnImageError, CameraRawError,
    UnsupportedImageError, TooManyPixelsError, TooCostlyImageError, TruncatedImageError.
    """
    if not data:
        raise EmptyFileError
    if len(data) > settings.max_image_bytes:
        raise FileTooLargeError(
            f"The file has {len(data):,} bytes; the limit is {settings.max_image_bytes:,}"
        )
    header = _checked_header(data, settings)
    width, height = header.size
    orientation = orientation_of(header)
    whole = refuse_incomplete(data, header.format or "", header.size)
    if whole is not data:
        data, header = whole, open_header(whole)
    if _opencv_is_correct(header):
        image, alpha = _decode_quickly(data, header, min_side_px), None
        if header.mode == "RGB" and not keep_profile:
            image = to_srgb(Samples(image, "RGB"), _profile_of(header))
    else:
        image, alpha = _decode_samples(data, header, keep_profile)
    if header.format == "BMP" and alpha is not None and not alpha.any():
        image, alpha = _decode_samples(data, header, keep_profile, opaque=True)
    image = _apply_orientation(image, orientation)
    if alpha is not None:
        alpha = _apply_orientation(alpha, orientation)
    if orientation in ROTATED:
        width, height = height, width
    return DecodedImage(image, width, height, alpha)


def _checked_header(data: bytes, settings: Settings) -> PIL.Image.Image:
    """The header of a photo within the limits. Raises as `decode` does."""
    try:
        header = open_header(data)
    except MattingError:
        raise
    except UnidentifiedImageError as error:
        raise TruncatedImageError("The image's header is damaged, or the file was cut") from error
    except Exception as error:  # on a damaged header, Pillow's plug-ins raise any exception
        raise TruncatedImageError(f"The image's header is damaged: {error}") from error
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
    return header


@dataclass(frozen=True, slots=True)
class DecodingCost:
    """What decoding a file will take."""

    width: int
    height: int
    """Of the upright picture that `decode` will return [px]."""
    times: int
    """How many ordinary photos of as many pixels take as much memory while they are decoded."""

    @property
    def pixels(self) -> int:
        """The pixels of that picture."""
        return self.width * self.height


def decoding_cost(data: bytes, min_side_px: int | None = None) -> DecodingCost:
    """What `decode` will take, from the header; no pixels if the file is not an image."""
    try:
        header = open_header(data)
        times = 1 if _opencv_is_correct(header) else CONVERTED
    except Exception:  # `decode` reports what is wrong with the file
        return DecodingCost(0, 0, 1)
    scale = _reduced_scale(header, min_side_px)
    width, height = (math.ceil(side / scale) for side in header.size)
    if orientation_of(header) in ROTATED:
        width, height = height, width
    return DecodingCost(width, height, times)


def _reduced_scale(header: PIL.Image.Image, min_side_px: int | None) -> int:
    """The denominator of the DCT scale that keeps `min_side_px` on the shorter side: 1, 2, 4, 8."""
    if not min_side_px or header.format not in JPEG_FORMATS or not _opencv_is_correct(header):
        return 1
    side = min(header.size)
    return next((scale for scale in (8, 4, 2) if side >= scale * min_side_px), 1)


def _opencv_is_correct(header: PIL.Image.Image) -> bool:
    """Whether OpenCV decodes the file's samples correctly: 8-bit grey in sRGB, or 8-bit RGB."""
    if header.format == "BMP":
        return header.info.get("compression") in BMP_RUN_LENGTH or _arrangement(header) == "BGR"
    if header.format not in OPENCV_FORMATS or "transparency" in header.info:
        return False
    profile = header.info.get("icc_profile")
    if header.format == "PNG" and isinstance(_profile_of(header), MatrixProfile):
        return False
    if header.mode == "L":
        return not profile or profile[16:20] != b"GRAY"
    return header.mode == "RGB" and not _is_deep(header)


def _is_deep(header: PIL.Image.Image) -> bool:
    """Whether it is a PNG with 16 bits a sample. Pillow would drop the lower 8 of them."""
    return header.format == "PNG" and "16" in _arrangement(header)


def _arrangement(header: PIL.Image.Image) -> str:
    """Pillow's name of the arrangement of the samples in the file."""
    tiles: Any = getattr(header, "tile", None)
    given = tiles[0].args if tiles else ""
    return str(given[0] if isinstance(given, tuple) else given)


def _decode_quickly(data: bytes, header: PIL.Image.Image, min_side_px: int | None) -> Image:
    scale = _reduced_scale(header, min_side_px)
    if header.format in JPEG_FORMATS:
        decoded = decode_jpeg(data, header.size, scale)
        if decoded is not None:
            return decoded
    image = _imdecode(data, header, CV2_REDUCED_READ[scale])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _imdecode(data: bytes, header: PIL.Image.Image, flags: int) -> NDArray[Any]:
    buffer = np.frombuffer(_png_pixels_only(data) if header.format == "PNG" else data, np.uint8)
    try:
        image = cv2.imdecode(buffer, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise TruncatedImageError(f"The image's data is damaged: {error.err}") from error
    if image is None:
        raise TruncatedImageError("The image's data is damaged")
    return image


def without_white(decoded: DecodedImage) -> DecodedImage:
    """A decoded image with the colours that its half-transparent pixels had before they were put on
    white: c = (shown - white * (1 - alpha)) / alpha.
    """
    if decoded.alpha is None:
        return decoded
    image = decoded.image.copy()
    for start in range(0, len(image), ROWS_AT_ONCE):  # floats of a whole photo would be too large
        rows, alphas = image[start : start + ROWS_AT_ONCE], decoded.alpha[start:][:ROWS_AT_ONCE]
        edge = (alphas > 0) & (alphas < WHITE)
        share = alphas[edge][:, None].astype(np.float32) / WHITE
        colours = (rows[edge] - WHITE * (1 - share)) / share
        rows[edge] = np.clip(np.rint(colours), 0, WHITE).astype(np.uint8)
    return replace(decoded, image=image)


def _decode_samples(
    data: bytes, header: PIL.Image.Image, keep_profile: bool, *, opaque: bool = False
) -> tuple[Image, Image | None]:
    """Decode any file: the colours [h, w, 3] uint8 on white, and alpha [h, w] uint8 or None."""
    try:
        samples = unmultiplied(_read_samples(data, header))
        profile = _profile_of(header)
        can_keep = isinstance(profile, bytes) and header.mode in ("RGB", "RGBA")
        if keep_profile and can_keep and samples.space == "RGB":
            profile = None
        colours = to_srgb(samples, profile)
        if samples.alpha is None or opaque:
            return colours, None
        alpha = np.ascontiguousarray(to_uint8(samples.alpha))
        if alpha.min(initial=255) == 255:
            return colours, None
        # Transparent areas become white background, as shops show such pictures.
        white = PIL.Image.new("RGB", (colours.shape[1], colours.shape[0]), "white")
        white.paste(PIL.Image.fromarray(colours), mask=PIL.Image.fromarray(alpha))
        return np.asarray(white), alpha
    except (MemoryError, MattingError):
        raise
    except Exception as error:  # on damaged data, Pillow's plug-ins raise any exception
        raise TruncatedImageError(f"The image's data is damaged: {error}") from error


def _profile_of(header: PIL.Image.Image) -> bytes | MatrixProfile | None:
    """What the file says of its colours, by ICC profile, numbers or curves; None: sRGB.

    Raises UnsupportedImageError for HDR.
    """
    info = header.info
    if profile := info.get("icc_profile"):
        return bytes(profile)
    if codes := info.get("nclx_profile"):
        return coded_profile(codes["color_primaries"], codes["transfer_characteristics"])
    if header.format == "PNG" and "gamma" in info and "srgb" not in info:
        return png_profile(info["gamma"], info.get("chromaticity"))
    return None


def _read_samples(data: bytes, header: PIL.Image.Image) -> Samples:
    """The samples of a file. Raises MattingError, and whatever Pillow raises."""
    if _is_deep(header):
        return _read_deep_png(data, header)
    if header.format == "PSD":
        return read_psd_samples(data)
    if isinstance(header, TiffImageFile):
        stored = read_tiff(data, header)
        if stored is not None:
            turn = header.tag_v2.get(ORIENTATION_TAG, 1)
            alpha = None if stored.alpha is None else _apply_orientation(stored.alpha, turn)
            values = _apply_orientation(stored.values, turn)
            return replace(stored, values=values, alpha=alpha)
    return read_with_pillow(header)


def _read_deep_png(data: bytes, header: PIL.Image.Image) -> Samples:
    """The samples of a PNG with 16 bits, [h, w, 1 or 3] uint16."""
    stored = _imdecode(data, header, cv2.IMREAD_UNCHANGED)
    if stored.ndim == 2:
        stored = stored[..., None]
    grey = data[25] in (0, 4)  # IHDR's colour type
    space = "L" if grey else "RGB"
    colours = stored[..., :1] if grey else stored[..., 2::-1]
    if stored.shape[2] in (2, 4):  # OpenCV gives grey with alpha as colour with alpha
        return Samples(colours, space, stored[..., -1])
    key = next(
        (data[begin + 8 : end - 4] for kind, begin, end in png_chunks(data) if kind == b"tRNS"), b""
    )
    if len(key) != 2 * colours.shape[2]:
        return Samples(colours, space)
    clear = (colours == np.frombuffer(key, ">u2")).all(axis=2)
    return Samples(colours, space, np.where(clear, np.uint16(0), np.uint16(65_535)))


def _apply_orientation(image: NDArray[Pixel], orientation: int) -> NDArray[Pixel]:
    """Apply EXIF orientation 1–8 (Exif 2.32, 4.6.4 A) to [h, w] or [h, w, channels]."""
    transformed = {
        2: lambda: image[:, ::-1],
        3: lambda: image[::-1, ::-1],
        4: lambda: image[::-1],
        5: lambda: image.swapaxes(0, 1),
        6: lambda: image.swapaxes(0, 1)[:, ::-1],
        7: lambda: image.swapaxes(0, 1)[::-1, ::-1],
        8: lambda: image.swapaxes(0, 1)[::-1],
    }.get(orientation)
    return np.ascontiguousarray(transformed()) if transformed else image


def _png_pixels_only(data: bytes) -> bytes:
    """The PNG file reduced to PNG_PIXEL_CHUNKS, with an end marker."""
    chunks = list(png_chunks(data))
    if all(kind in PNG_PIXEL_CHUNKS for kind, _, _ in chunks) and chunks[-1][0] == b"IEND":
        return data
    kept = [data[begin:end] for kind, begin, end in chunks if kind in PNG_PIXEL_CHUNKS - {b"IEND"}]
    return b"".join([data[:8], *kept, END_CHUNK])
