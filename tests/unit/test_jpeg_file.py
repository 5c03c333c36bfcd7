"""JPEG files: libjpeg-turbo gives what OpenCV gives, and leaves to it what is damaged."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest

from shared.errors import TruncatedImageError
from shared.settings import Settings
from worker.imaging.decoding import CV2_REDUCED_READ, decode
from worker.imaging.jpeg_file import decode_jpeg


def jpeg(mode: str = "RGB", size: tuple[int, int] = (157, 203), **options: object) -> bytes:
    width, height = size
    noise = np.random.default_rng(5).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(noise).resize((width, height), PIL.Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "data",
    [
        jpeg(quality=90, subsampling="4:2:0"),
        jpeg(quality=90, subsampling="4:2:2"),
        jpeg(quality=95, subsampling="4:4:4"),
        jpeg(quality=70, progressive=True),
        jpeg("L"),
        jpeg(quality=80, restart_marker_blocks=3),
        jpeg(size=(1, 1)),
        jpeg(size=(8, 1)),
        jpeg(size=(17, 300)),
    ],
    ids=["420", "422", "444", "progressive", "grey", "restarts", "one pixel", "line", "narrow"],
)
def test_the_pixels_are_those_that_opencv_gives_at_every_scale(data: bytes, scale: int) -> None:
    flags = CV2_REDUCED_READ[scale] | cv2.IMREAD_IGNORE_ORIENTATION
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        found = decode_jpeg(data, opened.size, scale)
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found, cv2.cvtColor(expected, cv2.COLOR_BGR2RGB))


def test_a_size_that_is_not_the_header_s_is_left_to_opencv() -> None:
    assert decode_jpeg(jpeg(), (157, 204), 1) is None


def test_a_damaged_file_is_left_to_opencv_and_refused_as_before() -> None:
    data = jpeg(size=(400, 400), quality=95)
    cut = data[: len(data) // 2]
    assert decode_jpeg(cut, (400, 400), 1) is None
    with pytest.raises(TruncatedImageError):
        decode(cut, Settings())


def test_rubbish_between_the_markers_costs_no_photo() -> None:
    data = jpeg(size=(64, 48), quality=95)
    end = 4 + int.from_bytes(data[4:6], "big")  # of the first segment
    odd = data[:end] + b"\x00\x00\x00" + data[end:]  # libjpeg warns of extraneous bytes
    assert decode_jpeg(odd, (64, 48), 1) is None
    expected = decode(data, Settings()).image
    decoded = cv2.imdecode(np.frombuffer(odd, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), expected)
