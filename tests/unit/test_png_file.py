"""PNG files as other programs read them."""

import io

import cv2
import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.imaging import png_file
from worker.imaging.arrays import Image
from worker.imaging.metadata import NO_METADATA, Metadata
from worker.imaging.png_file import encode_png


def noise(height: int, width: int, channels: int, seed: int) -> Image:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.sampled_from((1, 3, 4)),
    strip_bytes=st.integers(1, 4_000),
    seed=st.integers(0, 9),
)
def test_pillow_and_opencv_read_the_same_pixels_whatever_the_strips(
    height: int, width: int, channels: int, strip_bytes: int, seed: int
) -> None:
    pixels = noise(height, width, channels, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png_file, "STRIP_BYTES", strip_bytes)
        data = encode_png(pixels, NO_METADATA)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        opened.load()
        np.testing.assert_array_equal(np.asarray(opened), pixels)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    order = {1: None, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[channels]
    np.testing.assert_array_equal(read if order is None else cv2.cvtColor(read, order), pixels)


def test_a_picture_of_several_strips_is_whole_and_smaller_than_its_pixels() -> None:
    pixels = cv2.resize(noise(40, 30, 4, 1), (1_500, 2_000), interpolation=cv2.INTER_CUBIC)
    data = encode_png(np.asarray(pixels, np.uint8), NO_METADATA)
    assert data.count(b"IDAT") > 1
    assert len(data) < pixels.size / 2
    with PIL.Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(np.asarray(opened), pixels)


def test_profile_resolution_and_texts_are_read_by_pillow() -> None:
    icc = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    kept = Metadata(icc=icc, dpi=300.0, exif=((0x8298, "© Shop"),))
    with PIL.Image.open(io.BytesIO(encode_png(noise(5, 7, 4, 2), kept))) as opened:
        opened.load()
        assert opened.info["icc_profile"] == icc
        assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.05)
        text = opened.getexif()[0x8298]
        assert text.encode("latin-1").decode() == "© Shop"  # Pillow reads texts as ISO 8859-1


def test_the_same_pixels_give_the_same_bytes() -> None:
    pixels = noise(90, 80, 4, 3)
    assert encode_png(pixels, NO_METADATA) == encode_png(pixels.copy(), NO_METADATA)
