"""Labels from several teachers, and the choice of held-out photos."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.training.labels import OUTVOTED, agreed, keyed, without_shadow
from worker.training.splits import group_of, is_held_out, sessions

SIZE = 120


def _square(low: int = 30, high: int = 90) -> NDArray[np.float32]:
    alpha = np.zeros((SIZE, SIZE), np.float32)
    alpha[low:high, low:high] = 1
    return alpha


def test_where_teachers_agree_the_finest_one_s_alpha_is_the_label() -> None:
    label = agreed(_square(), [_square(31, 89)])
    assert (label.alpha == _square()).all()
    assert (label.worth == 1).all()
    assert label.doubt() == 0


def test_pixels_that_one_teacher_contradicts_have_no_weight() -> None:
    fine = _square()
    fine[0:20, 0:20] = 1  # an area that only the finest teacher sees
    label = agreed(fine, [_square()])
    assert label.worth[5:15, 5:15].max() == 0
    assert label.worth[40:80, 40:80].min() == 1


def test_two_teachers_outvote_the_finest() -> None:
    fine = _square()
    fine[50:70, 50:70] = 0  # a part of the garment is missing
    label = agreed(fine, [_square(), _square()])
    assert label.alpha[55:65, 55:65].min() == 1
    assert label.worth[55:65, 55:65] == pytest.approx(OUTVOTED)


def test_a_subject_that_teachers_dispute_gives_a_doubtful_label() -> None:
    assert agreed(_square(10, 110), [_square(50, 60)]).doubt() > 0.5
    assert agreed(np.zeros((SIZE, SIZE), np.float32), [_square()]).doubt() == 1


def _on_white(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    image[30:90, 30:90] = colour
    return image


def test_keying_a_subject_on_white_keeps_soft_edges() -> None:
    image = _on_white((40, 80, 160))
    image[29, 30:90] = (147, 167, 207)  # half subject, half white
    label = keyed(image, [])
    assert label.alpha[40:80, 40:80].min() == 1
    assert label.alpha[:25].max() == 0
    assert label.alpha[29, 50] == pytest.approx(0.5, abs=0.05)


def test_teachers_decide_about_white_inside_the_subject() -> None:
    image = _on_white((40, 80, 160))
    image[50:70, 50:70] = 255
    hole = _square()
    hole[50:70, 50:70] = 0
    assert keyed(image, [hole]).alpha[55:65, 55:65].max() == 0
    assert keyed(image, [_square()]).alpha[55:65, 55:65].min() == 1
    assert keyed(image, []).worth[55:65, 55:65].max() == 0


def test_a_grey_shadow_that_no_teacher_sees_is_background() -> None:
    image = _on_white((40, 80, 160))
    image[92:112, 30:90] = 215
    label = keyed(image, [_square(), _square()])
    assert label.alpha[100:110, 40:80].max() == 0
    assert label.worth[100:110, 40:80].min() == 1


def test_jpeg_specks_beside_the_subject_are_background() -> None:
    image = _on_white((40, 80, 160))
    image[10:13, 10:13] = 235
    assert keyed(image, []).alpha[5:20, 5:20].max() == 0


def test_a_cutout_s_soft_shadow_is_removed() -> None:
    alpha = _square()
    alpha[95:110, 30:90] = 0.3
    assert without_shadow(alpha)[97:, :].max() == 0
    assert (without_shadow(alpha)[30:90, 30:90] == 1).all()


def test_views_of_one_object_are_one_group() -> None:
    assert group_of("dishes_on_white", "images_APPLE_CAKE_01.jpg") == group_of(
        "dishes_on_white", "images_APPLE_CAKE_03.jpg"
    )
    assert group_of("appliances", "2-slice-toaster-black.jpg") == group_of(
        "appliances", "2-slice-toaster-stainless-steel.jpg"
    )
    assert group_of("models_on_white", "mh02-black_back.jpg") == group_of(
        "models_on_white", "mh07-gray_main.jpg"
    )
    assert group_of("outdoor", "1.jpg") != group_of("outdoor", "2.jpg")


def test_photos_with_similar_borders_are_one_session() -> None:
    rng = np.random.default_rng(3)
    floor = rng.integers(0, 255, (60, 60, 3)).astype(np.uint8)
    other = floor.copy()
    other[20:40, 20:40] = 0  # another garment on the same floor
    elsewhere = 255 - floor
    groups = sessions({"a.jpg": floor, "b.jpg": other, "c.jpg": elsewhere})
    assert groups == {"a.jpg": "a.jpg", "b.jpg": "a.jpg", "c.jpg": "c.jpg"}
    assert sessions({}) == {}


def test_about_one_group_in_nine_is_held_out() -> None:
    share = np.mean([is_held_out(str(number)) for number in range(3_000)])
    assert 0.08 < share < 0.15
