"""Decoded pixels agree with another decoder or with what was drawn."""

import io
import struct

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from PIL import ImageOps

from shared.settings import Settings
from tests import bad_photos
from tests.colour_profiles import adobe_rgb, adobe_to_srgb
from tests.photo_files import chunk, drawn, saved
from worker.imaging.arrays import Image
from worker.imaging.decoding import decode

SETTINGS = Settings()
GOOD = bad_photos.good()


def ours(data: bytes) -> Image:
    return decode(data, SETTINGS).image


def by_opencv(data: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint16 | np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    assert image is not None
    return image[..., ::-1] if image.ndim == 3 else image  # type: ignore[return-value]


def furthest(one: NDArray[np.generic], other: NDArray[np.generic]) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def mean_difference(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("name", ["cmyk.jpg", "ycck.jpg"])
def test_a_cmyk_jpeg_decodes_to_the_drawn_colours(name: str) -> None:
    # OpenCV uses another formula for inks. So the drawn colours count most.
    assert mean_difference(ours(GOOD[name]), np.asarray(drawn())) < 6
    assert mean_difference(ours(GOOD[name]), by_opencv(GOOD[name])) < 2


def test_a_cmyk_tiff_decodes_to_the_drawn_colours() -> None:
    assert furthest(ours(GOOD["cmyk.tiff"]), np.asarray(drawn())) <= 1


def test_black_ink_darkens_the_colours() -> None:
    inks = PIL.Image.new("CMYK", (16, 16), (0, 100, 200, 128))
    expected = [255 * 127 / 255, 155 * 127 / 255, 55 * 127 / 255]
    np.testing.assert_allclose(ours(saved(inks, "JPEG", quality=100))[8, 8], expected, atol=3)


@pytest.mark.parametrize("kind", ["colour", "grey", "grey-alpha", "colour-alpha"])
@pytest.mark.parametrize("interlaced", [False, True])
def test_sixteen_bits_are_rounded_to_eight(kind: str, interlaced: bool) -> None:
    channels = {"grey": 1, "grey-alpha": 2, "colour": 3, "colour-alpha": 4}[kind]
    y, x = np.mgrid[:48, :64]
    planes = [x * 1_000, y * 1_300, np.full_like(x, 30_000), (x + y) * 500]
    if channels < 3:
        planes = [planes[0], planes[3]]
    values = np.stack(planes[:channels], -1).astype(np.uint16)
    data = bad_photos.wide_png(values, interlaced=interlaced)
    read = by_opencv(data, cv2.IMREAD_UNCHANGED) if channels in (1, 3) else None
    colour = values[..., : 1 if channels < 3 else 3].astype(float) / 257
    if read is not None:
        np.testing.assert_array_equal(read.reshape(values.shape), values)
    if channels in (2, 4):
        share = values[..., -1:] / 65_535
        colour = colour * share + 255 * (1 - share)
    expected = np.broadcast_to(colour, (48, 64, 3))
    assert np.abs(ours(data) - expected).max() <= 2


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_and_low_bit_depths_decode_to_their_colours(bits: int) -> None:
    image = drawn().quantize(2**bits)
    data = saved(image, "PNG", bits=bits)
    np.testing.assert_array_equal(ours(data), np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(ours(data), by_opencv(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_as_by_other_decoders(orientation: int) -> None:
    data = GOOD[f"turned-{orientation}.jpg"]
    assert furthest(ours(data), by_opencv(data)) <= 1  # OpenCV applies the orientation by default
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert furthest(ours(data), np.asarray(ImageOps.exif_transpose(opened))) <= 8


@pytest.mark.parametrize("orientation", [0, 9, 262, 65_535])
def test_an_invalid_orientation_is_ignored(orientation: int) -> None:
    decoded = decode(bad_photos.turned(orientation), SETTINGS)
    assert (decoded.width, decoded.height) == (96, 64)
    assert decoded.image.shape == (64, 96, 3)
    assert mean_difference(decoded.image, np.asarray(drawn())) < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_wide_gamut_becomes_srgb(kind: str) -> None:
    steps = np.linspace(0, 255, 6).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(12, 18, 3)
    pixels = np.repeat(np.repeat(colours, 8, 0), 8, 1)  # blocks, which JPEG does not blur
    lossless: dict[str, dict[str, object]] = {"WEBP": {"lossless": True}}
    lossless["JPEG"] = {"quality": 100, "subsampling": 0}
    data = saved(
        PIL.Image.fromarray(pixels), kind, icc_profile=adobe_rgb(), **lossless.get(kind, {})
    )
    expected = adobe_to_srgb(pixels)
    assert mean_difference(pixels, expected) > 5, "it makes a difference"
    assert mean_difference(ours(data), expected) < 1.5
    kept = decode(data, SETTINGS, keep_profile=True).image
    assert mean_difference(kept, pixels) < 1.5


@pytest.mark.parametrize("colour", [(200, 40, 60), (40, 160, 90)])
def test_a_wide_gamut_is_decoded_smaller_and_becomes_srgb(colour: tuple[int, int, int]) -> None:
    photo = PIL.Image.new("RGB", (1_600, 1_200), colour)
    decoded = decode(saved(photo, "JPEG", icc_profile=adobe_rgb()), SETTINGS, min_side_px=512)
    assert (decoded.width, decoded.height) == (1_600, 1_200)
    assert decoded.image.shape == (600, 800, 3)
    expected = adobe_to_srgb(np.array(colour, np.uint8))
    assert np.abs(decoded.image.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("profile", [b"rubbish", adobe_rgb()[:200], bytes(500)])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    data = saved(drawn(), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(ours(data), np.asarray(drawn()))


@pytest.mark.parametrize("name", ["progressive.jpg", "arithmetic.jpg", "grey.jpg"])
def test_unusual_jpegs_decode_as_in_pillow(name: str) -> None:
    with PIL.Image.open(io.BytesIO(GOOD[name])) as opened:
        assert furthest(ours(GOOD[name]), np.asarray(opened.convert("RGB"))) <= 8


def test_the_first_of_several_pictures_is_used() -> None:
    assert mean_difference(ours(GOOD["several.mpo"]), np.asarray(drawn())) < 6
    assert mean_difference(ours(GOOD["moving.webp"]), np.asarray(drawn())) < 8


def test_a_top_down_bmp_is_not_flipped() -> None:
    pixels = np.asarray(drawn())
    pixels = pixels.copy()
    pixels[:10] = (255, 0, 0)
    data = bytearray(saved(PIL.Image.fromarray(pixels), "BMP"))
    rows = np.frombuffer(bytes(data[54:]), np.uint8).reshape(64, -1)
    data[22:26] = (-64).to_bytes(4, "little", signed=True)
    data[54:] = rows[::-1].tobytes()
    np.testing.assert_array_equal(ours(bytes(data)), pixels)


def test_a_run_length_bmp_decodes_as_in_pillow() -> None:
    expected = PIL.Image.open(io.BytesIO(GOOD["runs.bmp"])).convert("RGB")
    assert furthest(ours(GOOD["runs.bmp"]), np.asarray(expected)) == 0


def test_other_chunks_of_a_png_do_not_change_pixels() -> None:
    plain = GOOD["png"]
    told = chunk(b"gAMA", struct.pack(">I", 45_455)) + chunk(b"tEXt", b"Title\0x")
    told += chunk(b"pHYs", bytes(9)) + chunk(b"bKGD", bytes(6)) + chunk(b"vpAg", bytes(9))
    assert furthest(ours(plain[:33] + told + plain[33:]), ours(plain)) == 0
