import struct
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from shared.errors import (
    ImageError,
    MattingError,
    NotAnImageError,
    TooCostlyImageError,
    TooManyPixelsError,
)
from shared.settings import Settings
from tests import bad_photos
from worker.codec import decode
from worker.quarantine import Order, Quarantine

SETTINGS = Settings()
GOOD = bad_photos.good()
SLOW_S = 5


@pytest.mark.parametrize("name", sorted(GOOD))
def test_unusual_photos_decode(name: str) -> None:
    decoded = decode(GOOD[name], SETTINGS)
    assert decoded.image.shape == (decoded.height, decoded.width, 3)
    assert decoded.image.dtype == np.uint8


@pytest.mark.parametrize("name", ["arithmetic.jpg", "progressive.jpg", "cmyk.jpg", "ycck.jpg"])
def test_the_red_disc_stays_red(name: str) -> None:
    image = decode(GOOD[name], SETTINGS).image.astype(int)
    red, green, blue = image[image.shape[0] // 2, image.shape[1] // 2]
    corner = image[2, 2]
    if name == "ycck.jpg":  # its numbers were never YCCK: that it decodes is all there is to say
        return
    assert red > green + 80
    assert red > blue + 80
    assert corner.max() - corner.min() < 25


@pytest.mark.parametrize("name", sorted(bad_photos.never_images()))
def test_what_is_no_photo_is_told_apart(name: str) -> None:
    with pytest.raises(NotAnImageError):
        decode(bad_photos.never_images()[name], SETTINGS)


@pytest.fixture
def quarantine() -> Iterator[Quarantine]:
    """Little memory and time beyond what these small files need."""
    quarantine = Quarantine(Settings(max_image_pixels=1_000_000, image_timeout_s=SLOW_S))
    yield quarantine
    quarantine.close()


def test_damaged_files_decode_or_fail_within_their_limits(quarantine: Quarantine) -> None:
    small = {name: data for name, data in GOOD.items() if "30000" not in name}
    files = [*bad_photos.cut(small), *bad_photos.mutated(small, each=40, seed=11)]
    assert len(files) > 1_000
    codes = Counter(outcome(quarantine, data) for _, data in files)
    assert codes["truncated-image"] > 100
    assert codes["succeeded"] > 100
    # Nothing crashed, hung, or took more memory than its size warrants.
    assert set(codes) <= {
        "succeeded",
        "empty-file",
        "not-an-image",
        "truncated-image",
        "too-many-pixels",
        "too-costly",
    }


def test_a_chunk_that_says_it_has_4_gb_takes_none(quarantine: Quarantine) -> None:
    data = bytearray(GOOD["png"])
    data[33:37] = b"\xfe\x02\x42\x35"
    assert outcome(quarantine, bytes(data)) == "truncated-image"


def outcome(quarantine: Quarantine, data: bytes) -> str:
    try:
        pixels, width, height = quarantine.decode(data, Order())
    except MattingError as error:
        return error.code
    assert pixels.shape == (height, width, 3)
    return "succeeded"


@pytest.mark.parametrize("size", [(40_000, 40_000), (65_535, 65_535), (2**31 - 1, 2**31 - 1)])
def test_pixel_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    width, height = size
    data = bad_photos.png(struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), b"")
    tracemalloc.start()
    try:
        with pytest.raises(TooManyPixelsError):
            decode(data, SETTINGS)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("orientation", [0, 9, 262, 65_535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    image = bad_photos.drawn()
    exif = image.getexif()
    exif[0x0112] = orientation
    decoded = decode(bad_photos.saved(image, "JPEG", exif=exif), SETTINGS)
    assert (decoded.width, decoded.height) == (96, 64)
    assert decoded.image.shape == (64, 96, 3)


def test_a_comment_that_unpacks_to_64_mib_does_not_hurt() -> None:
    data = bad_photos.text_bomb()
    tracemalloc.start()
    try:
        decode_or_fail(data)
        assert tracemalloc.get_traced_memory()[1] < 24 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once() -> None:
    data = bad_photos.scan_bomb()
    began = time.monotonic()
    with pytest.raises(TooCostlyImageError):
        decode(data, SETTINGS)
    assert time.monotonic() - began < 1


def test_ten_scans_are_no_reason_to_refuse() -> None:
    assert decode(bad_photos.scan_bomb(200, 200, scans=10), SETTINGS).width == 200


def decode_or_fail(data: bytes) -> None:
    try:
        decode(data, SETTINGS)
    except ImageError:
        return
