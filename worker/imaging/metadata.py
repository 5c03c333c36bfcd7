"""Metadata that a result keeps from its photo: ICC profile, resolution (DPI), selected EXIF fields.

GPS positions, thumbnails, serial numbers and maker notes are never read, so they can't leak.
"""

from contextlib import suppress
from dataclasses import dataclass

import PIL.Image
from PIL.TiffImagePlugin import IFDRational

from shared.photo_header import open_header
from shared.rendition import ExifField, Output, Rendition

EXIF_IFD = 0x8769
EXIF_FIRST_TAG = 0x9000
"""Tags from here on stand in the Exif IFD."""

TAGS: dict[ExifField, tuple[int, ...]] = {
    ExifField.DESCRIPTION: (0x010E,),
    ExifField.ARTIST: (0x013B,),
    ExifField.COPYRIGHT: (0x8298,),
    ExifField.TAKEN_AT: (0x0132, 0x9003),
    ExifField.CAMERA: (0x010F, 0x0110),
}
"""EXIF tags of each field (Exif 2.32, tables 4 and 7)."""

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
INCH = 2

CM_PER_INCH = 2.54


@dataclass(frozen=True)
class Metadata:
    """The metadata to write into one result file."""

    icc: bytes | None = None
    dpi: float | None = None
    exif: tuple[tuple[int, str], ...] = ()
    """Pairs of an EXIF tag number and its text."""

    def __bool__(self) -> bool:
        return bool(self.icc or self.dpi or self.exif)

    def exif_bytes(self, *, with_dpi: bool) -> bytes | None:
        """The EXIF block, or None if it is empty.

        `with_dpi` includes the resolution, for formats that store it nowhere else.
        """
        block = PIL.Image.Exif()
        inner: dict[int, bytes] = {}
        for tag, text in self.exif:
            # Exif says ASCII; cameras and shops write UTF-8. Pillow would write "?" for "©".
            (inner if tag >= EXIF_FIRST_TAG else block)[tag] = text.encode()
        if inner:
            block[EXIF_IFD] = inner
        if with_dpi and self.dpi:
            block[X_RESOLUTION] = block[Y_RESOLUTION] = IFDRational(round(self.dpi * 100), 100)
            block[RESOLUTION_UNIT] = INCH
        return block.tobytes() if len(block) else None


NO_METADATA = Metadata()


def read_metadata(data: bytes, rendition: Rendition, *, keep_icc: bool) -> Metadata:
    """Read the metadata that the rendition keeps from a file's header; skip damaged fields. A matte
    has no colours, so it has no profile.
    """
    keep_icc = keep_icc and rendition.output is not Output.ALPHA
    if not (keep_icc or rendition.dpi or rendition.exif):
        return Metadata()
    header = open_header(data)
    icc = header.info.get("icc_profile")
    is_rgb = header.mode in ("RGB", "RGBA") and (icc or b"")[16:20] == b"RGB "
    if not keep_icc or not is_rgb:
        icc = None  # the pixels were converted to sRGB
    dpi: float | None = None if rendition.dpi == "keep" else rendition.dpi
    if rendition.dpi == "keep":
        with suppress(Exception):  # a damaged EXIF block stands beside pixels that are whole
            dpi = _dpi(header)
    exif: list[tuple[int, str]] = []
    with suppress(Exception):
        exif = _exif(header, rendition.exif)
    return Metadata(icc or None, dpi, tuple(exif))


def _dpi(header: PIL.Image.Image) -> float | None:
    found = header.info.get("dpi")
    value = float(found[0]) if found else None
    if value is None:
        exif = PIL.Image.Image.getexif(header)
        if X_RESOLUTION in exif:
            value = float(exif[X_RESOLUTION])
            if exif.get(RESOLUTION_UNIT, INCH) == 3:
                value *= CM_PER_INCH
    return value if value and 1 <= value <= 100_000 else None


def _exif(header: PIL.Image.Image, fields: tuple[ExifField, ...]) -> list[tuple[int, str]]:
    if not fields:
        return []
    exif = PIL.Image.Image.getexif(header)
    inner = exif.get_ifd(EXIF_IFD)
    found: list[tuple[int, str]] = []
    for field in fields:
        for tag in TAGS[field]:
            value = exif.get(tag, inner.get(tag))
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            if isinstance(value, str) and (text := _unicode(value).strip("\0 ")):
                found.append((tag, text[:2_000]))
    return found


def _unicode(text: str) -> str:
    """The text as meant: Pillow reads every byte as ISO 8859-1, most programs write UTF-8."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text
