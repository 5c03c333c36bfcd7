"""The largest possible result: each format's limit is checked before anything is encoded."""

import io
import itertools
import zipfile
from typing import Any

import numpy as np
import PIL.Image
import pytest

from shared.errors import EncodingFailedError, OutputTooLargeError, TooManyPixelsError
from shared.options import Format, Options, Profile
from shared.rendition import Rendition
from shared.settings import Settings
from tests.integration.test_batch_runner import Threshold
from worker.imaging.decoding import DecodedImage, decode
from worker.imaging.encoding import encode
from worker.imaging.finishing import FinishedFile, finish
from worker.imaging.metadata import Metadata


def finished(width: int, height: int, asked: dict[str, Any]) -> list[FinishedFile]:
    """A grey photo of this size with a red subject in its middle third."""
    image = np.full((height, width, 3), 128, np.uint8)
    third = slice(height // 3, -(-2 * height // 3)), slice(width // 3, -(-2 * width // 3))
    image[third] = (200, 20, 20)
    predictor = Threshold()
    prepared = predictor.prepare(image, Profile.FAST)
    (alpha,) = predictor.predict_many([prepared])
    assert isinstance(alpha, np.ndarray)
    options = Options.model_validate({"refine": False, **asked})
    return finish(DecodedImage(image, width, height), prepared, alpha, options)


def sizes_in(file: FinishedFile, kind: Format) -> list[tuple[int, int]]:
    """Width and height of every picture in a file, as a decoder reads them."""
    files = [file.data]
    if kind is Format.ZIP:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            files = [archive.read(name) for name in archive.namelist()]
    sizes = []
    for one in files:
        with PIL.Image.open(io.BytesIO(one)) as picture:
            picture.load()
            sizes.append(picture.size)
    return sizes


def in_format(kind: Format) -> dict[str, Any]:
    return {"format": kind.value} | ({"background": "#ffffff"} if kind is Format.JPEG else {})


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("kind", list(Format))
def test_a_result_at_its_format_s_limit_can_be_read(kind: Format, upright: bool) -> None:
    size = (4, kind.max_side_px) if upright else (kind.max_side_px, 4)
    (file,) = finished(*size, in_format(kind))
    assert set(sizes_in(file, kind)) == {size}


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("kind", list(Format))
def test_a_larger_result_is_refused_before_encoding_or_scaled_down_if_the_options_allow_it(
    kind: Format, upright: bool
) -> None:
    longer = kind.max_side_px + 1
    size = (4, longer) if upright else (longer, 4)
    with pytest.raises(OutputTooLargeError, match=f"{kind.max_side_px:,}"):
        finished(*size, in_format(kind))
    (file,) = finished(*size, in_format(kind) | {"max_side_px": 1_000})
    assert set(sizes_in(file, kind)) == {(1, 1_000) if upright else (1_000, 1)}


def test_one_output_that_is_too_large_fails_the_image_before_rendering() -> None:
    extra = [{"name": "{stem}-small.{ext}", "format": "webp", "max_side_px": 500}]
    assert len(finished(20_000, 4, {"extra_outputs": extra})) == 2
    extra.append({"name": "{stem}-large.{ext}", "format": "webp"})
    with pytest.raises(OutputTooLargeError):
        finished(20_000, 4, {"extra_outputs": extra})


def test_a_frame_computed_from_a_ratio_is_limited_too() -> None:
    tall = {"canvas": "1:100", "format": "webp", "background": "#ffffff"}
    assert sizes_in(finished(160, 90, tall)[0], Format.WEBP) == [(160, 16_000)]
    with pytest.raises(OutputTooLargeError):
        finished(170, 90, tall)
    assert sizes_in(finished(170, 90, tall | {"max_side_px": 9_000})[0], Format.WEBP) == [
        (90, 9_000)
    ]


ASKED: list[dict[str, Any]] = [
    {},
    {"output": "alpha"},
    {"crop": True},
    {"crop": True, "crop_margin": "10% 99999px", "shadow": "drop"},
    {"canvas": "1:100"},
    {"canvas": "100:1", "scale": 0.05},
    {"canvas": "1x1"},
    {"canvas": "10000x1", "scale": 1, "enlarge": True},
    {"max_side_px": 16},
    {"max_megapixels": 0.000001},
    {"crop": True, "canvas": "3x7", "scale": 0.05, "position": "0% 100%"},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 17_000), (17_000, 1), (3, 2), (1, 400)])
def test_extreme_photos_end_as_a_readable_file_or_with_a_code(
    size: tuple[int, int], asked: dict[str, Any]
) -> None:
    if "shadow" in asked and max(size) > 1_000:
        pytest.skip("it would be as wide as it is long: seconds of encoding, and no new case")
    for kind in Format:
        if kind is Format.ZIP and (asked.keys() & {"output", "shadow"}):
            continue
        if kind is Format.PSD and "output" in asked:  # it holds the cut-out, never the matte alone
            continue
        if kind is Format.AVIF and max(size) > 1_000:  # this case is slow
            continue
        try:
            (file,) = finished(*size, {**asked, **in_format(kind)})
        except OutputTooLargeError:
            continue
        assert set(sizes_in(file, kind)) == {(file.width, file.height)}


@pytest.mark.parametrize(
    ("kind", "with_dpi"), list(itertools.product([Format.WEBP, Format.JPEG], [False, True]))
)
def test_a_failing_encoder_is_an_error(kind: Format, with_dpi: bool) -> None:
    pixels = np.zeros((4, kind.max_side_px + 1, 3), np.uint8)
    metadata = Metadata(dpi=72) if with_dpi else Metadata()
    with pytest.raises(EncodingFailedError, match=f"{kind.max_side_px + 1}"):
        encode(pixels, Rendition.model_validate(in_format(kind)), metadata)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(1_048_577, 2), (2, 1_048_577)])
def test_a_photo_with_a_side_beyond_the_decoder_s_limit_is_not_reported_as_damaged(
    kind: str, size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", size).save(file, kind)
    with pytest.raises(TooManyPixelsError, match="1,000,000 per side"):
        decode(file.getvalue(), Settings())
