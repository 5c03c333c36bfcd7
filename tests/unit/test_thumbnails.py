"""Thumbnails show the whole picture, in its proportions, at any size."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest

from worker.imaging.kept_files import THUMBNAIL_SIDE_PX, thumbnail


@pytest.mark.parametrize("side", [40, THUMBNAIL_SIDE_PX, 300, 1_000, 5_001])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_thumbnail_looks_like_its_picture(side: int, channels: int) -> None:
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (side // 2, side, channels)).copy()
    if channels == 4:
        pixels[..., 3] = 255 - ramp[: side // 2, None]  # from opaque to half transparent
    with PIL.Image.open(io.BytesIO(thumbnail(pixels.squeeze()))) as image:
        shown = np.asarray(image.convert("RGBA" if channels == 4 else "RGB"))
    width = min(side, THUMBNAIL_SIDE_PX)
    assert shown.shape[:2] == (width // 2, width)
    expected = cv2.resize(pixels, (width, width // 2), interpolation=cv2.INTER_AREA)
    expected = expected.reshape(width // 2, width, channels)
    assert np.abs(shown - expected.astype(int)).mean() < 6


@pytest.mark.parametrize("shape", [(1, 9_000, 3), (9_000, 1, 4), (1, 1)])
def test_extreme_shapes_have_a_thumbnail(shape: tuple[int, ...]) -> None:
    with PIL.Image.open(io.BytesIO(thumbnail(np.full(shape, 90, np.uint8)))) as image:
        assert 1 <= min(image.size) <= max(image.size) <= THUMBNAIL_SIDE_PX


@pytest.mark.parametrize("side", [300, 1_000, 4_000])
def test_pale_goods_have_no_dark_outline(side: int) -> None:
    """Transparent pixels are black in a cut-out, and their colour is nobody's."""
    cutout = np.zeros((side, side, 4), np.uint8)
    cv2.circle(cutout, (side // 2, side // 2), side * 2 // 5, (255, 255, 255, 255), -1)
    with PIL.Image.open(io.BytesIO(thumbnail(cutout))) as image:
        pixels = np.asarray(image).astype(float)
    edge = (pixels[..., 3] > 60) & (pixels[..., 3] < 200)
    assert edge.sum() > 100
    assert pixels[edge][:, :3].mean() > 245
