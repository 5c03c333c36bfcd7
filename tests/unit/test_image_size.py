"""The size of a photo that the API reads from its header."""

import struct

import pytest

from api.sources.image_size import image_size
from shared.errors import NotAnImageError, TooCostlyImageError
from tests import bad_photos, photo_bombs, photo_files


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "bmp", "tiff"])
def test_the_size_is_read_from_the_header(name: str) -> None:
    assert image_size(bad_photos.good()[name]) == (96, 64)


def test_the_size_follows_the_exif_orientation() -> None:
    assert image_size(bad_photos.turned(6)) == (64, 96)
    assert image_size(bad_photos.turned(3)) == (96, 64)


def test_pixels_are_not_decoded() -> None:
    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 2, 0, 0, 0)
    assert image_size(photo_files.png(header, b"no pixels")) == (40_000, 30_000)


@pytest.mark.parametrize("data", bad_photos.never_images().values(), ids=bad_photos.never_images())
def test_a_file_that_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnImageError):
        image_size(data)


@pytest.mark.parametrize("name", ["padding.jpg", "comments.jpg", "chunks.png", "strips.tiff"])
def test_files_that_are_slow_to_read_are_refused(name: str) -> None:
    with pytest.raises(TooCostlyImageError):
        image_size(photo_bombs.bombs()[name][0])
