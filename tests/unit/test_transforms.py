"""deploy.yaml's steps compared with a literal implementation of PaddleSeg's own script."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.errors import UnsupportedTransformError
from worker.imaging.prepared import restore
from worker.inference.transforms import ExactTransforms

NORMALIZE: dict[str, object] = {
    "type": "Normalize",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
PP_MATTING_V2: list[dict[str, object]] = [
    {"type": "LoadImages"},
    {"type": "LimitShort", "max_short": 512},
    {"type": "ResizeToIntMult", "mult_int": 32},
    NORMALIZE,
]


def photo_of(height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(height * 7 + width)
    small = rng.integers(0, 255, (9, 11, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


@pytest.mark.parametrize("size", [(700, 900), (513, 2_000), (400, 300), (512, 512), (2_048, 600)])
def test_the_steps_of_pp_mattingv2(size: tuple[int, int]) -> None:
    photo = photo_of(*size)
    expected = photo
    short = min(size)
    if short > 512:
        scale = 512 / short
        target = round(size[1] * scale), round(size[0] * scale)
        expected = cv2.resize(photo, target, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    limited = expected.shape
    whole = limited[1] - limited[1] % 32, limited[0] - limited[0] % 32
    expected = cv2.resize(expected, whole, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    tensor = ((expected.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)

    transforms = ExactTransforms(PP_MATTING_V2)
    prepared = transforms.prepare(photo)
    normalised = transforms.normalisation.apply(prepared.image[None])[0]
    np.testing.assert_allclose(normalised, tensor, atol=1e-6)

    alpha = normalised[0]
    back = cv2.resize(alpha, (limited[1], limited[0]), interpolation=cv2.INTER_LINEAR)
    back = cv2.resize(back, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(restore(alpha, prepared.steps), back, atol=1 / 255)


@pytest.mark.parametrize(
    ("step", "size", "expected"),
    [
        ({"type": "ResizeByShort", "short_size": 100}, (200, 300), (100, 150)),
        ({"type": "ResizeByLong", "long_size": 100}, (200, 300), (67, 100)),
        ({"type": "LimitLong", "max_long": 100}, (200, 300), (67, 100)),
        ({"type": "LimitLong", "min_long": 600}, (200, 300), (400, 600)),
        ({"type": "LimitLong", "max_long": 900}, (200, 300), (200, 300)),
        ({"type": "LimitShort", "min_short": 400}, (200, 300), (400, 600)),
        ({"type": "ResizeToIntMult", "mult_int": 64}, (200, 300), (192, 256)),
        ({"type": "ResizeToIntMult"}, (20, 300), (32, 288)),
        ({"type": "Resize", "target_size": [320, 160]}, (200, 300), (160, 320)),
        ({"type": "Padding", "target_size": [320, 320]}, (200, 300), (320, 320)),
    ],
)
def test_each_step_gives_the_configured_size(
    step: dict[str, object], size: tuple[int, int], expected: tuple[int, int]
) -> None:
    transforms = ExactTransforms([step, NORMALIZE])
    assert transforms.size_of(size) == expected
    prepared = transforms.prepare(photo_of(*size))
    assert prepared.shape == expected
    assert restore(np.zeros(expected, np.float32), prepared.steps).shape == size


def test_padding_is_right_and_bottom_in_the_configured_grey() -> None:
    step = {"type": "Padding", "target_size": [40, 30], "im_padding_value": [255, 0, 127.5]}
    prepared = ExactTransforms([step, NORMALIZE]).prepare(np.zeros((20, 25, 3), np.uint8))
    assert (prepared.image[:20, :25] == 0).all()
    padding = prepared.image[20:].reshape(-1, 3)
    np.testing.assert_array_equal(padding.min(0), [255, 0, 128])
    np.testing.assert_array_equal(padding.min(0), padding.max(0))
    assert prepared.content == pytest.approx(20 * 25 / (30 * 40))


@given(st.integers(1, 3_000), st.integers(1, 3_000))
def test_every_photo_size_works(height: int, width: int) -> None:
    result = ExactTransforms(PP_MATTING_V2).size_of((height, width))
    assert result[0] % 32 == result[1] % 32 == 0
    assert min(result) >= 32


@pytest.mark.parametrize(
    "transforms",
    [
        [{"type": "RandomCrop", "size": 3}, NORMALIZE],
        [{"type": "ResizeByLong"}, NORMALIZE],
        [{"type": "ResizeByLong", "long_size": 512, "interp": "CUBIC"}, NORMALIZE],
        [{"type": "LoadImages", "to_rgb": False}, NORMALIZE],
        [{"type": "Resize", "random_interp": True}, NORMALIZE],
        [{"type": "Padding", "target_size": [9, 9], "im_padding_value": 127.5}, NORMALIZE],
        [{"type": "Normalize", "mean": [0.5]}],
        [{"type": "LoadImages"}],
    ],
)
def test_unknown_steps_are_refused_when_loading(transforms: list[dict[str, object]]) -> None:
    with pytest.raises(UnsupportedTransformError):
        ExactTransforms(transforms)
