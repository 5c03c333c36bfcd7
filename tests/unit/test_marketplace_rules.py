"""What can be matted is, rightly: pixels against another decoder, or against what was drawn."""

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
def test_inks_become_the_colours_that_were_drawn(name: str) -> None:
    # OpenCV has its own formula for inks; what was drawn is the judge of both.
    assert mean_difference(ours(GOOD[name]), np.asarray(drawn())) < 6
    assert mean_difference(ours(GOOD[name]), by_opencv(GOOD[name])) < 2


def test_inks_of_a_tiff_become_the_colours_that_were_drawn() -> None:
    assert furthest(ours(GOOD["cmyk.tiff"]), np.asarray(drawn())) <= 1


def test_black_ink_darkens() -> None:
    inks = PIL.Image.new("CMYK", (16, 16), (0, 100, 200, 128))
    expected = [255 * 127 / 255, 155 * 127 / 255, 55 * 127 / 255]
    np.testing.assert_allclose(ours(saved(inks, "JPEG", quality=100))[8, 8], expected, atol=3)


@pytest.mark.parametrize("kind", ["colour", "grey", "grey-alpha", "colour-alpha"])
@pytest.mark.parametrize("interlaced", [False, True])
def test_sixteen_bits_become_the_nearest_of_eight(kind: str, interlaced: bool) -> None:
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
def test_palettes_and_few_bits_give_the_colours_they_name(bits: int) -> None:
    image = drawn().quantize(2**bits)
    data = saved(image, "PNG", bits=bits)
    np.testing.assert_array_equal(ours(data), np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(ours(data), by_opencv(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_stands_as_other_decoders_show_it(orientation: int) -> None:
    data = GOOD[f"turned-{orientation}.jpg"]
    assert furthest(ours(data), by_opencv(data)) <= 1  # OpenCV turns by itself when not told off
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert furthest(ours(data), np.asarray(ImageOps.exif_transpose(opened))) <= 8


@pytest.mark.parametrize("orientation", [0, 9, 262, 65_535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    decoded = decode(bad_photos.turned(orientation), SETTINGS)
    assert (decoded.width, decoded.height) == (96, 64)
    assert decoded.image.shape == (64, 96, 3)
    assert mean_difference(decoded.image, np.asarray(drawn())) < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_wide_gamut_becomes_srgb(kind: str) -> None:
    steps = np.linspace(0, 255, 6).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(12, 18, 3)
    pixels = np.repeat(np.repeat(colours, 8, 0), 8, 1)  # blocks, so that JPEG does them no harm
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


@pytest.mark.parametrize("profile", [b"rubbish", adobe_rgb()[:200], bytes(500)])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    data = saved(drawn(), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(ours(data), np.asarray(drawn()))


@pytest.mark.parametrize("name", ["progressive.jpg", "arithmetic.jpg", "grey.jpg"])
def test_unusual_jpegs_look_as_pillow_shows_them(name: str) -> None:
    with PIL.Image.open(io.BytesIO(GOOD[name])) as opened:
        assert furthest(ours(GOOD[name]), np.asarray(opened.convert("RGB"))) <= 8


def test_the_first_of_several_pictures_counts() -> None:
    assert mean_difference(ours(GOOD["several.mpo"]), np.asarray(drawn())) < 6
    assert mean_difference(ours(GOOD["moving.webp"]), np.asarray(drawn())) < 8


def test_a_bmp_that_begins_at_its_top_is_not_upside_down() -> None:
    pixels = np.asarray(drawn())
    pixels = pixels.copy()
    pixels[:10] = (255, 0, 0)
    data = bytearray(saved(PIL.Image.fromarray(pixels), "BMP"))
    rows = np.frombuffer(bytes(data[54:]), np.uint8).reshape(64, -1)
    data[22:26] = (-64).to_bytes(4, "little", signed=True)
    data[54:] = rows[::-1].tobytes()
    np.testing.assert_array_equal(ours(bytes(data)), pixels)


def test_runs_of_a_bmp_become_what_pillow_makes_of_them() -> None:
    expected = PIL.Image.open(io.BytesIO(GOOD["runs.bmp"])).convert("RGB")
    assert furthest(ours(GOOD["runs.bmp"]), np.asarray(expected)) == 0


def test_what_a_png_says_beside_its_pixels_changes_none() -> None:
    plain = GOOD["png"]
    told = chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(b"tEXt", b"Title\0x")
    assert furthest(ours(plain[:33] + told + plain[33:]), ours(plain)) == 0
