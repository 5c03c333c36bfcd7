"""What a caller names in sRGB looks the same in a result that keeps the photo's profile."""

import io
from typing import Any

import cv2
import numpy as np
import PIL.Image
import psd_tools
import pytest
from PIL import ImageCms

from shared.options import Options
from shared.settings import Settings
from tests.colour_profiles import adobe_rgb, adobe_to_srgb
from tests.photo_files import saved
from worker.imaging.arrays import Image
from worker.imaging.decoding import decode
from worker.imaging.finishing import FinishedFile, finish_matte, metadata_to_keep
from worker.imaging.kept_files import KeptFiles
from worker.pipeline.turntables import shrunk

BRAND = np.array([228, 0, 43], np.uint8)
"""A red of sRGB, which Adobe RGB writes as 195, 0, 46."""

RED = "#e4002b"
PICTURE = "s3://photos/red.jpg"
GREEN = (60, 190, 70)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def finished(
    asked: dict[str, Any], profile: bytes = adobe_rgb(), kept: KeptFiles | None = None
) -> FinishedFile:
    """The result of a green photo of this profile, with a round subject."""
    options = Options.model_validate({"colour_profile": "keep", **asked})
    photo = saved(PIL.Image.new("RGB", (240, 180), GREEN), "PNG", icc_profile=profile)
    decoded = decode(photo, Settings(), keep_profile=True)
    matte = np.zeros((180, 240), np.uint8)
    cv2.circle(matte, (120, 90), 50, 255, -1, cv2.LINE_AA)
    picture: Image = np.full((30, 40, 3), BRAND, np.uint8)
    metadata = metadata_to_keep(photo, options)
    [file] = finish_matte(
        decoded, matte, options, metadata=metadata, pictures={PICTURE: picture}, kept=kept
    )
    return file


def shown(pixels: Image, profile: bytes) -> Image:
    """What a program with colour management shows of Adobe RGB."""
    assert profile == adobe_rgb()
    return adobe_to_srgb(pixels)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("background", [RED, {"gradient": [RED, RED]}, PICTURE])
@pytest.mark.parametrize("frame", [{}, {"canvas": "300x300", "scale": 0.6, "shadow": "contact"}])
def test_a_background_has_the_colour_that_was_asked_for(
    kind: str, background: Any, frame: dict[str, Any]
) -> None:
    file = finished({"format": kind, "quality": 98, "background": background, **frame})
    with PIL.Image.open(io.BytesIO(file.data)) as opened:
        pixels = shown(np.asarray(opened), opened.info["icc_profile"])
    assert np.abs(pixels[:8, :8].astype(int) - BRAND).max() <= 5
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].astype(int)
    assert np.abs(middle - adobe_to_srgb(np.array(GREEN, np.uint8))).max() <= 5, "as in the photo"


def test_white_stays_white_and_colours_under_srgb_stay_exact() -> None:
    white = np.asarray(PIL.Image.open(io.BytesIO(finished({"background": "#ffffff"}).data)))
    assert (white[0] == 255).all()
    red = np.asarray(PIL.Image.open(io.BytesIO(finished({"background": RED}, SRGB).data)))
    assert (red[0] == BRAND).all()


def test_the_background_of_a_document_has_the_colour_too() -> None:
    document = psd_tools.PSDImage.open(
        io.BytesIO(finished({"format": "psd", "background": RED}).data)
    )
    [background] = [layer for layer in document if layer.name == "Background"]
    samples = background.numpy()
    assert samples is not None
    pixels = np.rint(samples * 255).astype(np.uint8)
    assert np.abs(adobe_to_srgb(pixels).astype(int) - BRAND).max() <= 2


def test_a_thumbnail_has_no_profile_and_the_colours_of_the_result() -> None:
    kept = KeptFiles(wants_thumbnails=True, wants_matte=False)
    finished({"background": RED}, kept=kept)
    assert kept.thumbnails is not None
    with PIL.Image.open(io.BytesIO(kept.thumbnails)) as opened:
        assert "icc_profile" not in opened.info
        pixels = np.asarray(opened).astype(int)
    assert np.abs(pixels[:8, :8] - BRAND).max() <= 8
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
    assert np.abs(middle - adobe_to_srgb(np.array(GREEN, np.uint8))).max() <= 8


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_picture_of_a_turntable_is_srgb(kind: str) -> None:
    picture = shrunk(finished({"format": kind, "quality": 98}).data, None, 1)
    expected = adobe_to_srgb(np.array(GREEN, np.uint8))
    assert np.abs(picture[90, 120, :3].astype(int) - expected).max() <= 4
    assert (picture[0, 0] == 0).all()
