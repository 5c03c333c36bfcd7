"""The size of a photo, as the API reads it."""

import struct

import pytest

from api.sources.image_size import image_size
from shared.errors import NotAnImageError, TooCostlyImageError
from tests import bad_photos, photo_bombs, photo_files


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "bmp", "tiff"])
def test_the_header_is_enough(name: str) -> None:
    assert image_size(bad_photos.good()[name]) == (96, 64)


def test_a_turned_photo_is_as_large_as_it_is_seen() -> None:
    assert image_size(bad_photos.turned(6)) == (64, 96)
    assert image_size(bad_photos.turned(3)) == (96, 64)


def test_pixels_are_not_looked_at_whatever_they_are() -> None:
    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 2, 0, 0, 0)
    assert image_size(photo_files.png(header, b"no pixels")) == (40_000, 30_000)


@pytest.mark.parametrize("data", bad_photos.never_images().values(), ids=bad_photos.never_images())
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnImageError):
        image_size(data)


@pytest.mark.parametrize("name", ["padding.jpg", "comments.jpg", "chunks.png", "strips.tiff"])
def test_what_would_keep_an_api_process_busy_is_refused(name: str) -> None:
    with pytest.raises(TooCostlyImageError):
        image_size(photo_bombs.bombs()[name][0])
