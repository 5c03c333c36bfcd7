"""Good pixels are not refused for what stands beside them, and other files get a clear code."""

import base64
import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import (
    CameraRawError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedImageError,
)
from shared.settings import Settings
from tests.colour_profiles import adobe_to_srgb, encode_srgb, linear_rgb
from tests.photo_files import chunk, drawn, heif, saved
from tests.photo_matrix import psd
from worker.imaging.decoding import decode

# Pillow warns of what is damaged beside the pixels.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SETTINGS = Settings()

RUBBISH = b"Exif\0\0" + b"not a TIFF header" * 4


def pixels(data: bytes) -> np.ndarray:
    return decode(data, SETTINGS).image


def png_with(*chunks: bytes, behind: bytes = b"") -> bytes:
    plain = saved(drawn(), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:-12] + behind + plain[-12:]


def wrong(piece: bytes) -> bytes:
    """A chunk whose checksum is wrong."""
    return piece[:-1] + bytes((piece[-1] ^ 0xFF,))


XMP = b"XML:com.adobe.xmp\0\0\0\0\0<x>" + b"x" * 3_000_000
PNGS = {
    "exif-rubbish": png_with(chunk(b"eXIf", RUBBISH)),
    "exif-twice": png_with(chunk(b"eXIf", RUBBISH), chunk(b"eXIf", RUBBISH)),
    "wrong-sum-of-phys": png_with(wrong(chunk(b"pHYs", bytes(9)))),
    "wrong-sum-of-profile": png_with(wrong(chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x")))),
    "short-phys": png_with(chunk(b"pHYs", bytes(3))),
    "short-gamma": png_with(chunk(b"gAMA", bytes(2))),
    "large-xmp": png_with(chunk(b"iTXt", XMP)),
    "large-text": png_with(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(5_000_000)))),
    "broken-text": png_with(chunk(b"zTXt", b"Comment\0\0rubbish")),
    "broken-profile": png_with(chunk(b"iCCP", b"p\0\0rubbish")),
    "large-profile": png_with(chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2_000_000)))),
    "broken-animation": png_with(chunk(b"acTL", bytes(3)), chunk(b"fcTL", bytes(2))),
    "text-behind": png_with(behind=wrong(chunk(b"tEXt", b"a\0b"))),
    "no-end": saved(drawn(), "PNG")[:-12],
    "wrong-end": saved(drawn(), "PNG")[:-4] + bytes(4),
}


@pytest.mark.parametrize("name", PNGS)
def test_a_png_is_read_whatever_stands_beside_its_pixels(name: str) -> None:
    np.testing.assert_array_equal(pixels(PNGS[name]), np.asarray(drawn()))


def test_exif_behind_the_pixels_of_a_png_turns_it() -> None:
    turned = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x112, 3, 1, 6, 0) + bytes(4)
    found = decode(png_with(behind=chunk(b"eXIf", turned)), SETTINGS)
    np.testing.assert_array_equal(found.image, np.rot90(np.asarray(drawn()), -1))


@pytest.mark.parametrize("marker", range(0xE0, 0xF0))
@pytest.mark.parametrize("content", [b"", b"\0", RUBBISH, b"MPF\0rubbish", b"ICC_PROFILE\0\x09"])
def test_a_jpeg_is_read_whatever_its_segments_hold(marker: int, content: bytes) -> None:
    if marker == 0xEE and len(content) < 12:
        content = b"rubbish" + content
    plain = saved(drawn(), "JPEG")
    segment = bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content
    np.testing.assert_array_equal(pixels(plain[:2] + segment + plain[2:]), pixels(plain))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "PNG"])
def test_broken_exif_spoils_no_pixels(kind: str) -> None:
    plain = saved(drawn(), kind)
    broken = saved(drawn(), kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    np.testing.assert_array_equal(pixels(broken), pixels(plain))


def test_broken_exif_of_a_phone_spoils_no_pixels() -> None:
    broken = heif(drawn(), exif=b"Exif\0\0" + b"rubbish" * 9)
    np.testing.assert_array_equal(pixels(broken), np.asarray(drawn()))


def test_a_jpeg_that_lost_only_its_end_mark_is_whole() -> None:
    plain = saved(drawn(), "JPEG")
    np.testing.assert_array_equal(pixels(plain[:-2]), pixels(plain))
    with pytest.raises(TruncatedImageError, match="too early"):
        pixels(plain[:-40])


def test_a_bmp_with_a_wrong_file_size_is_whole() -> None:
    data = bytearray(saved(drawn(), "BMP"))
    for size in (0, 10**9):
        data[2:6] = size.to_bytes(4, "little")
        np.testing.assert_array_equal(pixels(bytes(data)), np.asarray(drawn()))
    with pytest.raises(TruncatedImageError, match="too early"):
        pixels(bytes(data[:-200]))


def test_only_files_that_end_too_early_are_said_to() -> None:
    data = bytearray(saved(drawn(), "PNG"))
    data[200] ^= 0xFF
    with pytest.raises(TruncatedImageError) as raised:
        pixels(bytes(data))
    assert "too early" not in raised.value.message


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"FUJIFILMCCD-RAW 0201", "RAF"),
        (b"IIRO\x08\0\0\0", "ORF"),
        (b"IIU\0\x18\0\0\0", "RW2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "CR3"),
        (b"II*\0\x10\0\0\0CR\2\0", "CR2"),
        (b"FOVb\0\0", "X3F"),
        (b"\0MRM\0\0", "MRW"),
    ],
)
def test_camera_raw_is_refused_by_its_name(head: bytes, name: str) -> None:
    with pytest.raises(CameraRawError, match=name) as raised:
        decode(head + bytes(500), SETTINGS)
    assert "Export" in raised.value.message


def test_raw_in_a_tiff_is_refused_and_not_its_thumbnail_matted() -> None:
    small, full = (np.zeros((n, n, 3), np.uint8) for n in (64, 256))
    for tags in ([(50706, 1, 4, b"\1\4\0\0", True)], [(262, 3, 1, 32803, True)]):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(small, photometric="rgb", subfiletype=1, subifds=1, extratags=tags[:1])
            writer.write(full, photometric="rgb")
        with pytest.raises((CameraRawError, UnsupportedImageError)):
            decode(file.getvalue(), SETTINGS)


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("below", [True, False])
def test_a_tiff_that_begins_with_a_preview_is_refused(marked: bool, below: bool) -> None:
    small, full = (np.zeros((n, n, 3), np.uint8) for n in (64, 256))
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        subfile = 1 if marked else 0
        writer.write(small, photometric="rgb", subfiletype=subfile, subifds=int(below))
        writer.write(full, photometric="rgb")
    with pytest.raises(UnsupportedImageError, match="preview"):
        decode(file.getvalue(), SETTINGS)


@pytest.mark.parametrize("below", [True, False])
def test_a_tiff_with_smaller_versions_behind_it_is_a_photo(below: bool) -> None:
    full = np.asarray(drawn(256, 192))
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(full, photometric="rgb", subifds=int(below))
        writer.write(full[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(pixels(file.getvalue()), full)


def test_a_profile_is_told_by_what_it_does() -> None:
    dark = PIL.Image.new("RGB", (8, 8), (20, 20, 20))
    named = linear_rgb().replace(b"Linear sRGB\0", b"sRGB IEC61966-2.1\0"[:12])
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        found = pixels(saved(dark, kind, icc_profile=named, **options))
        assert abs(int(found[4, 4, 0]) - 79) <= 2, kind  # 20/255 of the light


def coloured(colour: tuple[int, int, int], *chunks: bytes) -> bytes:
    plain = saved(PIL.Image.new("RGB", (8, 8), colour), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def gamma_chunk(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def test_the_curves_and_primaries_of_a_png_without_profile_are_applied() -> None:
    colour = (180, 120, 90)
    for gamma in (1.0, 1 / 1.8):
        seen = encode_srgb((np.array(colour) / 255) ** (1 / gamma)) * 255
        assert np.abs(pixels(coloured(colour, gamma_chunk(gamma)))[4, 4] - seen).max() <= 1, gamma
    adobe = (31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)
    primaries = chunk(b"cHRM", struct.pack(">8I", *adobe))
    found = pixels(coloured(colour, gamma_chunk(256 / 563), primaries))[4, 4].astype(int)
    assert np.abs(found - adobe_to_srgb(np.array(colour, np.uint8))).max() <= 2
    as_they_are = {
        "sRGB beside gAMA": (gamma_chunk(1.0), chunk(b"sRGB", b"\0")),
        "as sRGB": (gamma_chunk(0.45455),),
        "no curve": (gamma_chunk(0),),
        "no colours": (gamma_chunk(0.5), chunk(b"cHRM", bytes(32))),
        "coded sRGB": (gamma_chunk(1.0), chunk(b"cICP", b"\1\x0d\0\1")),
    }
    for name, chunks in as_they_are.items():
        assert tuple(pixels(coloured(colour, *chunks))[4, 4]) == colour, name


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8))
@example(45_455, [31_270, 32_900, 64_000, 33_000, 64_000, 33_000, 15_000, 6_000])
@example(100_000, [0, 1, 0, 1, 0, 1, 0, 1])
def test_any_numbers_of_a_png_s_colours_give_a_picture(gamma: int, numbers: list[int]) -> None:
    told = chunk(b"gAMA", struct.pack(">I", gamma)) + chunk(b"cHRM", struct.pack(">8I", *numbers))
    assert pixels(coloured((180, 120, 90), told)).shape == (8, 8, 3)


def test_a_png_that_codes_its_colours_by_numbers_is_read_by_them() -> None:
    in_p3 = pixels(coloured((200, 40, 45), chunk(b"cICP", b"\x0c\x0d\0\1")))[4, 4]
    kept = decode(
        coloured((200, 40, 45), chunk(b"cICP", b"\x0c\x0d\0\1")), SETTINGS, keep_profile=True
    )
    assert (kept.image == in_p3).all(), "there is no profile that a result could keep"
    assert tuple(in_p3) == (218, 0, 34)  # by the primaries of SMPTE EG 432-1, clipped
    with pytest.raises(UnsupportedImageError, match="HDR"):
        decode(coloured((200, 40, 45), chunk(b"cICP", b"\x09\x10\0\1")), SETTINGS)


def jpeg_of(frame: bytes, bits: int = 8) -> bytes:
    """The beginning of a JPEG with this marker of its frame."""
    size = struct.pack(">BHHB", bits, 64, 96, 1) + b"\x01\x11\0"
    return b"\xff\xd8\xff" + frame + struct.pack(">H", 2 + len(size)) + size + bytes(40)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (jpeg_of(b"\xc3"), "without loss"),
        (jpeg_of(b"\xf7"), "without loss"),
        (jpeg_of(b"\xc1", bits=12), "12 bits"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI" + bytes(99), "Xcode"),
        (saved(drawn(), "BMP")[:30] + b"\5\0\0\0" + bytes(99), "printers"),
    ],
)
def test_forms_that_are_not_read_are_not_called_damaged(data: bytes, said: str) -> None:
    with pytest.raises(UnsupportedImageError, match=said):
        decode(data, SETTINGS)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GIF89a" + bytes(99), "a GIF"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"\0\0\0\x18ftypisom" + bytes(99), "video"),
        (b"\n <!DOCTYPE HTML><p>Sign in", "a web page"),
        (b'{"error": "not found"}', "JSON"),
        (saved(drawn(), "JPEG").decode("utf-8", "replace").encode(), "made of a photo"),
        (saved(drawn(), "PNG").decode("utf-8", "replace").encode(), "made of a photo"),
        (base64.b64encode(saved(drawn(), "JPEG")), "Base64"),
    ],
)
def test_what_is_no_photo_is_called_what_it_is(data: bytes, said: str) -> None:
    with pytest.raises(NotAnImageError, match=said):
        decode(data, SETTINGS)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPB", "PSB"),
    ],
)
def test_pictures_that_are_not_read_are_named_with_the_way_out(start: bytes, said: str) -> None:
    with pytest.raises(UnsupportedImageError, match=said) as refused:
        decode(start + bytes(99), SETTINGS)
    assert "Export it as JPEG" in refused.value.message


@pytest.mark.parametrize("kind", ["u4", "i2", "f8", "c8"])
def test_tiffs_of_other_samples_are_called_what_they_are(kind: str) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((16, 24, 3), kind), photometric="rgb")
    with pytest.raises(UnsupportedImageError):
        decode(file.getvalue(), SETTINGS)


def test_photoshop_documents_that_are_not_read_say_why() -> None:
    planes = np.zeros((16, 24, 3), np.int64)
    data = psd(planes, 3, 8, has_alpha=False, packed_rows=False)
    lab = data[:24] + struct.pack(">H", 9) + data[26:]
    deep = data[:22] + struct.pack(">H", 32) + data[24:]
    resource = b"8BIM" + struct.pack(">HHI", 1057, 0, 5) + b"\0\0\0\1\0\0"
    layers_only = data[:30] + struct.pack(">I", len(resource)) + resource + data[34:]
    for one in (lab, deep, layers_only):
        with pytest.raises(UnsupportedImageError, match="Photoshop"):
            decode(one, SETTINGS)
    with pytest.raises(TruncatedImageError, match="too early"):
        decode(data[:-9], SETTINGS)


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.mpo", "a"])
def test_the_content_decides_and_not_the_name(name: str, tmp_path: object) -> None:
    from shared.photo_kinds import photo_kind

    assert photo_kind(saved(drawn(), "JPEG")[:64]) == "JPEG"
