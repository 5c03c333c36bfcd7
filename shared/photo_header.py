"""Reads the header of a photo without decoding; refuses files that would take minutes.

Each kind has its own reader, chosen by the file's first bytes. Pillow parses a file part by part in
Python, and a file can consist of parts only: 48 MB of JPEG padding took 250 s and held the GIL.
"""

import io
import struct
from contextlib import suppress
from itertools import product

import PIL.Image
import pillow_heif
from PIL import AvifImagePlugin, TiffImagePlugin, UnidentifiedImageError
from pillow_heif import HeifImageFile

from shared.errors import UnsupportedImageError
from shared.jpeg_segments import refuse_other_jpeg, without_broken_segments
from shared.photo_kinds import HEAD_BYTES, photo_kind, refusal
from shared.png_chunks import readable_png, too_many_parts
from shared.psd_header import open_psd
from shared.tiff_header import has_size, refuse_other_tiff

MOST_READS = 300_000
"""Most reads of one file by Pillow; a PNG of 50 MB in chunks of 1 KiB needs two thirds of it."""

ORIENTATION_TAG = 0x0112

BMP_PACKINGS = (b"\4\0\0\0", b"\5\0\0\0")
"""Of a BMP that is a JPEG or a PNG inside (BI_JPEG, BI_PNG)."""

# Pillow would refuse large photos as bombs; the settings limit the pixels instead.
PIL.Image.MAX_IMAGE_PIXELS = None


def _let_pillow_open_more_tiffs() -> None:
    """Tell Pillow of the arrangements of samples that `worker.imaging.tiff_samples` reads: Pillow
    refuses a file of an unknown one before its header can be asked.
    """
    colours = ((0, "L", 1), (1, "L", 1), (2, "RGB", 3), (5, "CMYK", 4))
    extras = ((), (0,), (1,), (2,), (0, 0), (1, 0), (2, 0), (0, 0, 0))
    for order, (photometric, mode, channels), extra, (bits, form) in product(
        (b"II", b"MM"), colours, extras, ((8, 1), (16, 1), (16, 3), (32, 3))
    ):
        count = channels + len(extra)
        if count <= TiffImagePlugin.MAX_SAMPLESPERPIXEL:
            alpha = "A" if extra and extra[0] and mode != "CMYK" else ""
            key = (order, photometric, (form,), 1, (bits,) * count, extra)
            TiffImagePlugin.OPEN_INFO.setdefault(key, (mode + alpha, mode + alpha))


_let_pillow_open_more_tiffs()

# Read TIFFs with libtiff, also those that are not packed: Pillow's own reader gets some wrong.
TiffImagePlugin.READ_LIBTIFF = True

# The worker decodes photos in parallel, and one photo on one core; thumbnails, depth maps and gain
# maps are not needed.
pillow_heif.options.DECODE_THREADS = AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = False
pillow_heif.options.AUX_IMAGES = False


def open_header(data: bytes) -> PIL.Image.Image:
    """Open a photo and read its header.

    Raises NotAnImageError, CameraRawError, UnsupportedImageError, TooCostlyImageError, and whatever
    Pillow's plug-ins raise for a damaged file.
    """
    head = data[:HEAD_BYTES]
    kind = photo_kind(head)
    if kind is None:
        raise refusal(head)
    if kind == "TIFF":
        refuse_other_tiff(data)
    elif kind == "PNG":
        if data[12:16] == b"CgBI":
            raise UnsupportedImageError("The PNG is in Xcode's own format for apps (CgBI)")
        data = readable_png(data)
    elif kind == "BMP" and data[30:34] in BMP_PACKINGS:
        raise UnsupportedImageError("The BMP is made for printers: it holds a JPEG or a PNG")
    elif kind == "PSD":
        return open_psd(data)
    file = _Measured(data)
    try:
        if kind == "HEIF":
            return HeifImageFile(file)  # type: ignore[no-untyped-call]
        if kind == "AVIF":
            avif = _Avif(file)
            if codes := _coded_colours(data):
                avif.info["nclx_profile"] = codes
            return avif
    except SyntaxError as error:
        raise UnidentifiedImageError(str(error)) from error
    try:
        header: PIL.Image.Image = PIL.Image.open(file, formats=(kind,))
    except UnidentifiedImageError:
        if kind == "JPEG":
            refuse_other_jpeg(data)
        if kind == "TIFF" and has_size(data):
            raise UnsupportedImageError(
                "The TIFF has a kind of samples that can't be read"
            ) from None
        if kind != "JPEG":
            raise
        return PIL.Image.open(_Measured(without_broken_segments(data)), formats=(kind,))
    if kind == "JPEG":
        refuse_other_jpeg(data)
    elif kind == "PNG" and (codes := _coded_png_colours(data)):
        header.info["nclx_profile"] = codes
        header.info.pop("icc_profile", None)
    return header


def orientation_of(header: PIL.Image.Image) -> int:
    """The EXIF orientation that the pixels still need; 1 if missing, damaged, or invalid.

    Pillow turns TIFFs when it loads them, libheif turns HEIFs; their sizes are upright already.
    """
    if header.format in ("TIFF", "HEIF"):
        return 1
    # Use the method of the base class: that of Pillow's PNG class decodes the whole picture to find
    # an eXIf chunk after the pixels.
    with suppress(Exception):  # a damaged EXIF block stands beside pixels that are whole
        found = int(PIL.Image.Image.getexif(header).get(ORIENTATION_TAG, 1))
        return found if 1 <= found <= 8 else 1
    return 1


def _coded_colours(data: bytes) -> dict[str, int]:
    """The first `colr` box that says by numbers what the colours are (ISO 14496-12, 12.1.5)."""
    at = data.find(b"colrnclx")
    codes = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
    if at < 0 or at + 14 > len(data):
        return {}
    return dict(zip(codes, struct.unpack_from(">3H", data, at + 8), strict=True))


def _coded_png_colours(data: bytes) -> dict[str, int]:
    """The cICP chunk of a PNG, which precedes its ICC profile (PNG, 3rd edition, 11.3.2.6)."""
    at = data.find(b"\0\0\0\4cICP", 8, data.find(b"IDAT"))
    if at < 0:
        return {}
    return {"color_primaries": data[at + 8], "transfer_characteristics": data[at + 9]}


class _Measured(io.BytesIO):
    """A file that limits the number of reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise too_many_parts()
        return super().read(size)


class _Avif(AvifImagePlugin.AvifImageFile):
    """Pillow's reader of AVIF, except that a damaged EXIF block spoils nothing."""

    def _open(self) -> None:
        try:
            super()._open()
        except Exception:
            if not all(self.size):
                raise
            block = PIL.Image.Exif()
            block[ORIENTATION_TAG] = self._decoder.get_info()[5]
            self.info["exif"] = block.tobytes()
            self.seek(0)
