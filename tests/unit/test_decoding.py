"""Decoding photos: formats, orientation, limits and damaged files."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.errors import (
    EmptyFileError,
    FileTooLargeError,
    ImageError,
    NotAnImageError,
    TooManyPixelsError,
    TruncatedImageError,
)
from shared.options import Options
from shared.settings import Settings
from worker.imaging.decoding import decode
from worker.imaging.encoding import encode

SETTINGS = Settings()


def saved(image: PIL.Image.Image, kind: str, **arguments: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **arguments)
    return buffer.getvalue()


def quadrants(width: int = 60, height: int = 40) -> PIL.Image.Image:
    """Red, green, blue and grey quadrants: they show any rotation or flip."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 220, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 220)
    pixels[height // 2 :, width // 2 :] = (120, 120, 120)
    return PIL.Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_every_accepted_format_decodes_to_the_right_colours(kind: str) -> None:
    decoded = decode(saved(quadrants(), kind), SETTINGS)
    assert (decoded.width, decoded.height) == (60, 40)
    np.testing.assert_allclose(decoded.image[5, 5], (220, 20, 20), atol=12)
    np.testing.assert_allclose(decoded.image[35, 5], (20, 20, 220), atol=12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int) -> None:
    image = quadrants()
    exif = image.getexif()
    exif[0x0112] = orientation
    data = saved(image, "JPEG", exif=exif, quality=95)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        from PIL import ImageOps

        upright = np.asarray(ImageOps.exif_transpose(opened))
    decoded = decode(data, SETTINGS)
    assert decoded.image.shape == upright.shape
    assert (decoded.height, decoded.width) == upright.shape[:2]
    np.testing.assert_allclose(decoded.image.astype(int), upright.astype(int), atol=6)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = bytes(cv2.imencode(".png", values)[1])
    decoded = decode(data, SETTINGS).image
    np.testing.assert_allclose(decoded[..., 0], values / 257, atol=1.5)


def test_cmyk_is_converted() -> None:
    red = PIL.Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    pixel = decode(saved(red, "JPEG"), SETTINGS).image[16, 16]
    assert pixel[0] > 180
    assert max(pixel[1], pixel[2]) < 80


def test_transparent_areas_become_white() -> None:
    image = PIL.Image.new("RGBA", (20, 20), (10, 20, 30, 0))
    image.paste((200, 30, 40, 255), (5, 5, 15, 15))
    decoded = decode(saved(image, "PNG"), SETTINGS).image
    assert tuple(decoded[0, 0]) == (255, 255, 255)
    assert tuple(decoded[10, 10]) == (200, 30, 40)


def test_palette_with_transparency_decodes() -> None:
    image = PIL.Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 250, 10, 10] + [0] * 762)
    decoded = decode(saved(image, "PNG", transparency=0), SETTINGS).image
    assert tuple(decoded[4, 4]) == (250, 10, 10)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    rng = np.random.default_rng(3)
    noisy = PIL.Image.fromarray(rng.integers(0, 255, (80, 90, 3), np.uint8))
    data = saved(noisy, kind)
    with pytest.raises(TruncatedImageError):
        decode(data[: int(len(data) * share)], SETTINGS)


def test_a_truncated_jpeg_with_a_thumbnail_is_refused(jpeg: bytes) -> None:
    thumbnail = saved(quadrants(16, 16), "JPEG")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = jpeg[:2] + segment + jpeg[2:]
    assert decode(data, SETTINGS).width == 400
    with pytest.raises(TruncatedImageError):
        decode(data[: len(data) * 2 // 3], SETTINGS)


@pytest.mark.parametrize(
    "data",
    [
        b"<html><body>404</body></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"#!/bin/sh\n",
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
        b"\x00" * 100,
        b"%PDF-1.7",
    ],
)
def test_a_file_that_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnImageError):
        decode(data, SETTINGS)


def test_limits_are_checked_before_decoding(jpeg: bytes) -> None:
    with pytest.raises(EmptyFileError):
        decode(b"", SETTINGS)
    with pytest.raises(FileTooLargeError):
        decode(jpeg, SETTINGS.model_copy(update={"max_image_bytes": 100}))
    with pytest.raises(TooManyPixelsError):
        decode(jpeg, SETTINGS.model_copy(update={"max_image_pixels": 400 * 300 - 1}))
    bomb = saved(PIL.Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(TooManyPixelsError):
        decode(bomb, SETTINGS)


def test_a_reduced_jpeg_still_knows_the_original_size() -> None:
    data = saved(quadrants(1600, 1200), "JPEG")
    decoded = decode(data, SETTINGS, min_side_px=300)
    assert (decoded.width, decoded.height) == (1600, 1200)
    assert decoded.image.shape == (300, 400, 3)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutated_file_decodes_or_fails_with_an_image_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF"]))
    original = bytearray(saved(quadrants(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(original), SETTINGS)
    except ImageError:
        return
    assert decoded.image.dtype == np.uint8
    assert decoded.image.shape[2] == 3


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_cutout_keeps_alpha_and_colours(kind: str) -> None:
    cutout = np.zeros((30, 40, 4), np.uint8)
    cutout[5:25, 5:35] = (200, 60, 30, 255)
    options = Options.model_validate({"format": kind, "quality": 100})
    read = PIL.Image.open(io.BytesIO(encode(cutout, options)))
    assert read.mode == "RGBA"
    pixels = np.asarray(read)
    assert tuple(pixels[0, 0][3:]) == (0,)
    np.testing.assert_allclose(pixels[15, 20], (200, 60, 30, 255), atol=4)


def test_a_png_is_lossless_and_the_same_each_time(photo: NDArray[np.uint8]) -> None:
    first, second = encode(photo, Options()), encode(photo, Options())
    assert first == second
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(first))), photo)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_too_many_pixels_are_refused_before_any_is_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(quadrants(), kind)

    def decoded_too_early(*_: object, **__: object) -> None:
        raise AssertionError("decoded before the limit was checked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded_too_early)
    with pytest.raises(TooManyPixelsError):
        decode(data, Settings(max_image_pixels=100))


def test_a_png_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(quadrants(), "PNG")

    def decoded_again(*_: object, **__: object) -> None:
        raise AssertionError("Pillow decoded what OpenCV decodes")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded_again)
    assert decode(data, SETTINGS).image.shape == (40, 60, 3)


def test_exif_orientation_of_a_png_is_applied() -> None:
    image = quadrants()
    exif = image.getexif()
    exif[0x0112] = 6
    decoded = decode(saved(image, "PNG", exif=exif), SETTINGS)
    assert (decoded.width, decoded.height) == (40, 60)
    np.testing.assert_array_equal(decoded.image[5, 35], (220, 20, 20))
