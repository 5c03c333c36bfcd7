"""The full-size matte, the colours at its edge, and the rendered colours."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.options import Options
from worker.imaging.edge_colours import estimate_foreground, transition_pixels
from worker.imaging.matte import full_size_alpha
from worker.imaging.render import Subject, render


def composite() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """A blue subject on red with a soft edge: the photo, its alpha and the subject's true
    colour.
    """
    alpha = np.zeros((200, 240), np.float32)
    cv2.circle(alpha, (120, 100), 60, 1.0, -1)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 3).astype(np.float32)
    subject = np.array([20, 60, 220], np.float32)
    mixed = alpha[..., None] * subject + (1 - alpha[..., None]) * np.array([230, 30, 20])
    return np.rint(mixed).astype(np.uint8), np.rint(alpha * 255).astype(np.uint8), subject


def test_black_and_white_point_leave_no_haze() -> None:
    alpha = np.array([[0.0, 0.03, 0.5, 0.97, 1.0]], np.float32)
    assert full_size_alpha(alpha, 5, 1).tolist() == [[0, 0, 128, 255, 255]]


def test_without_levels_the_alpha_is_the_network_s_own() -> None:
    alpha = np.linspace(0, 1, 1_000, dtype=np.float32).reshape(25, 40)
    pixels = full_size_alpha(alpha, 40, 25, levels=False)
    assert np.abs(pixels - alpha * 255).max() <= 0.5 + 1e-3


def test_alpha_comes_back_at_the_photo_size() -> None:
    assert full_size_alpha(np.ones((32, 64), np.float32), 301, 77).shape == (77, 301)


def test_edge_colours_contain_no_old_background() -> None:
    photo, alpha, subject = composite()
    band = (alpha > 40) & (alpha < 215)
    before = np.abs(photo[band].astype(float) - subject).mean()
    after = np.abs(
        render(Subject(photo, alpha), Options())[band][:, :3].astype(float) - subject
    ).mean()
    assert before > 60
    assert after < 12


def test_opaque_pixels_stay_unchanged() -> None:
    photo, alpha, _ = composite()
    cutout = render(Subject(photo, alpha), Options())
    np.testing.assert_array_equal(cutout[alpha == 255][:, :3], photo[alpha == 255])


def test_a_hard_or_empty_matte_has_no_edge() -> None:
    photo, alpha, _ = composite()
    for matte in (np.zeros_like(alpha), np.full_like(alpha, 255)):
        assert len(transition_pixels(matte)) == 0
        assert estimate_foreground(photo, matte, transition_pixels(matte)).shape == (0, 3)


def test_a_haze_far_from_the_subject_keeps_roughly_the_photo_s_colours() -> None:
    photo, _, _ = composite()
    haze = np.full(photo.shape[:2], 3, np.uint8)
    colours = estimate_foreground(photo, haze, transition_pixels(haze)).reshape(photo.shape)
    corner = colours[:20, :20].astype(int)
    assert np.abs(corner - photo[:20, :20]).max() <= 2


@settings(deadline=None)  # a busy machine must not fail the test
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1), st.sampled_from([1, 40, 254])
)
def test_every_photo_and_alpha_give_a_colour_for_each_pixel(
    height: int, width: int, seed: int, least: int
) -> None:
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    alpha = rng.integers(0, 256, (height, width), np.uint8)
    alpha[alpha < least] = 0
    places = transition_pixels(alpha)
    assert places.tolist() == np.flatnonzero((alpha > 0) & (alpha < 255)).tolist()
    assert estimate_foreground(photo, alpha, places).shape == (len(places), 3)


def test_colours_are_not_premultiplied_and_transparent_pixels_are_zero() -> None:
    photo, alpha, _ = composite()
    cutout = render(Subject(photo, alpha), Options.model_validate({"foreground": "keep"}))
    assert (cutout[alpha == 0] == 0).all()
    kept = alpha > 0
    np.testing.assert_array_equal(cutout[kept][:, :3], photo[kept])
    np.testing.assert_array_equal(cutout[..., 3], alpha)


def test_the_background_has_exactly_the_requested_colour() -> None:
    photo, alpha, _ = composite()
    result = render(Subject(photo, alpha), Options(background="#fefdfc"))
    assert result.shape == photo.shape
    assert (result[alpha == 0] == (254, 253, 252)).all()
    np.testing.assert_array_equal(result[alpha == 255], photo[alpha == 255])


def test_alpha_alone_is_grey() -> None:
    photo, alpha, _ = composite()
    np.testing.assert_array_equal(
        render(Subject(photo, alpha), Options.model_validate({"output": "alpha"})), alpha
    )
