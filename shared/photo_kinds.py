"""What kind of file this is, told by its first bytes; names don't count."""

from collections.abc import Iterable

from shared.errors import CameraRawError, ImageError, NotAnImageError, UnsupportedImageError

HEAD_BYTES = 512
"""First bytes of a file that are enough for `photo_kind` and `raw_kind`."""

PHOTO_KINDS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "BMP", "PSD")
"""The accepted kinds, by the names of Pillow's plug-ins. JPEG includes JFIF, JPE and MPO."""

PHOTO_ENDINGS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff"),
        *(".heic", ".heif", ".hif", ".avif", ".psd"),
    }
)
"""Endings of the names of photos. A file that has one and is none is damaged, or called wrongly."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""TIFF and BigTIFF in both byte orders (TIFF 6.0, section 2)."""

HEVC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
GENERAL_BRANDS = frozenset({b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
"""Brands of ISO 23008-12 and of AV1's image format."""

BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Lengths of the header behind a BMP's file header, one for each version of the format."""

_RAW_STARTS = (
    (b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (b"IIRO", "Olympus ORF"),
    (b"IIRS", "Olympus ORF"),
    (b"MMOR", "Olympus ORF"),
    (b"IIU\0", "Panasonic RW2"),
    (b"II\x1a\0\0\0HEAPCCDR", "Canon CRW"),
    (b"\0MRM", "Minolta MRW"),
    (b"FOVb", "Sigma X3F"),
    (b"ARRI", "ARRIRAW"),
)

_UNREAD_PICTURES = (
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"8BPB", "a large Photoshop document (PSB)"),
    (b"gimp xcf", "a GIMP image"),
    (b"II\xbc\x01", "a JPEG XR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DDS texture"),
)

_OTHER_STARTS = (
    (b"GIF8", "a GIF"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"icns", "a macOS icon"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"PK\x03\x04", "a zip file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\xd0\xcf\x11\xe0", "a document of Microsoft Office"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    # A program read the photo as text and wrote it again: each byte that was no UTF-8 is lost.
    (b"\xef\xbf\xbd\xef\xbf\xbd", "text that a program made of a photo"),
    (b"\xef\xbf\xbdPNG", "text that a program made of a photo"),
    (b"/9j/", "Base64 text"),
    (b"iVBORw0KGgo", "Base64 text"),
    (b"data:image/", "Base64 text"),
    (b"version https://git-lfs", "a pointer of Git LFS"),
)

_TEXT_STARTS = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML text"),
    (b"{", "a JSON text"),
)
"""Beginnings in small letters, behind blanks: what a server sends in place of a photo."""


def photo_kind(head: bytes) -> str | None:
    """One of PHOTO_KINDS for the first HEAD_BYTES of a file, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(TIFF_STARTS):
        return None if raw_kind(head) else "TIFF"
    if head[4:8] == b"ftyp":
        return _iso_kind(head)
    if head.startswith(b"8BPS"):
        return "PSD"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return "BMP"
    return None


def raw_kind(head: bytes) -> str | None:
    """The name of a camera raw format that its first bytes tell. TIFF-based ones that need a
    look at their directories are found by `shared.tiff_header`.
    """
    if head[4:12] == b"ftypcrx ":
        return "Canon CR3"
    if head.startswith(TIFF_STARTS[:2]) and head[8:10] == b"CR":
        return "Canon CR2"
    return _named(head, _RAW_STARTS)


def refusal(head: bytes) -> ImageError:
    """The error for a file whose first HEAD_BYTES tell none of PHOTO_KINDS."""
    if raw := raw_kind(head):
        return CameraRawError(f"The file is camera raw ({raw})")
    if picture := _named(head, _UNREAD_PICTURES):
        return UnsupportedImageError(f"The file is {picture}")
    other = _other_kind(head)
    return NotAnImageError(f"The file is {other}, not a photo" if other else None)


def _other_kind(head: bytes) -> str | None:
    if b"<svg" in head[:HEAD_BYTES].lower():
        return "an SVG drawing"
    if head.startswith(b"PK") and (b"[Content_Types].xml" in head or b"xl/" in head):
        return "an Excel or other Office file (save a list as CSV UTF-8)"
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] == b"AVI "):
        return "a video or an unknown ISO media file"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return _named(head, _OTHER_STARTS) or _named(text, _TEXT_STARTS)


def _named(head: bytes, starts: Iterable[tuple[bytes, str]]) -> str | None:
    return next((name for start, name in starts if head.startswith(start)), None)


def _iso_kind(head: bytes) -> str | None:
    """HEIF or AVIF by the brands of the `ftyp` box: the major one first, then the compatible ones.
    The general brands `mif1` and `msf1` leave it to the others.
    """
    size = int.from_bytes(head[:4], "big")
    major = head[8:12]
    brands = {major, *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    if major == b"crx ":
        return None
    if brands & AVIF_BRANDS and (major in AVIF_BRANDS or not brands & HEVC_BRANDS):
        return "AVIF"
    return "HEIF" if brands & (HEVC_BRANDS | GENERAL_BRANDS) else None
