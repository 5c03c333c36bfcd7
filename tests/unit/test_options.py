"""Options: presets, contradictions, and overrides for one image."""

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from shared.clip_format import ClipFormat
from shared.options import TURNTABLE_FORMATS, Format, Options, Output, Preset
from shared.presets import DESCRIPTIONS, PRESETS


@pytest.mark.parametrize("preset", Preset)
def test_a_preset_is_only_a_set_of_options(preset: Preset) -> None:
    by_name = Options(preset=preset)
    one_by_one = Options.model_validate(PRESETS[preset])
    assert by_name.model_dump(exclude={"preset"}) == one_by_one.model_dump(exclude={"preset"})
    assert Options.model_validate(by_name.model_dump(mode="json")) == by_name
    assert DESCRIPTIONS[preset]


def test_given_options_override_the_preset() -> None:
    options = Options.model_validate({"preset": "amazon", "quality": "50", "scale": "80%"})
    assert (options.quality, options.scale, options.background) == (50, 0.8, "#ffffff")


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "jpeg"},
        {"format": "zip", "background": "#ffffff"},
        {"format": "png", "max_bytes": 50_000},
        {"preset": "nothing"},
        {"background": "whitish"},
        {"background": "s3://bucket"},
        {"background": {"gradient": ["#ffffff"]}},
        {"crop_margin": "10 %"},
        {"crop_margin": "1px 2px 3px 4px 5px"},
        {"canvas": "20x"},
        {"canvas": "0x10"},
        {"canvas": "10001x10"},
        {"canvas": "20000x20000", "format": "webp"},
        {"extra_outputs": [{"name": "{stem}.{ext}", "canvas": "20000x1", "format": "webp"}]},
        {"max_side_px": 20_000, "format": "webp"},
        {"canvas": "1:0"},
        {"canvas": "500:1"},
        {"scale": 3},
        {"position": "left"},
        {"crop": True, "position": "original"},
        {"name": "../{stem}"},
        {"name": "/{stem}"},
        {"name": "{user.password}"},
        {"name": "{stem"},
        {"roi": [0.5, 0, 0.4, 1]},
        {"extra_outputs": [{"format": "png"}]},
        {"extra_outputs": [{"name": "{stem}", "output": "both"}]},
        {"exif": ["gps"]},
        {"backgrund": "#ffffff"},
    ],
)
def test_contradictory_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)


def test_an_image_overrides_its_job_a_preset_in_full() -> None:
    job = Options(background="#112233", format="webp")
    assert job.overridden({"quality": 40}).background == "#112233"
    shop = job.overridden({"preset": "taobao", "quality": 40})
    assert (shop.format, shop.background, shop.quality) == ("jpeg", "#ffffff", 40)


def test_both_adds_the_matte_in_the_same_frame() -> None:
    options = Options(output="both", canvas="1:1", max_side_px=300)
    (beside,) = options.extras
    assert (beside.output, beside.format, beside.canvas) == ("alpha", "png", "1:1")
    assert options.output_keys("j", "i")[1] == "jobs/j/results/i/1.png"


def test_options_list_their_background_pictures_for_the_access_check() -> None:
    options = Options.model_validate(
        {
            "background": "s3://one/a.jpg",
            "extra_outputs": [{"name": "x", "background": {"image": "s3://two/b.jpg"}}],
        }
    )
    assert list(options.background_images()) == ["s3://one/a.jpg", "s3://two/b.jpg"]


def test_a_preset_that_is_no_name_is_refused() -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"preset": {}})


def test_whatever_options_photos_have_their_turntable_has_valid_ones() -> None:
    extras: tuple[dict[str, Any], ...] = (
        {}, {"max_bytes": 50_000}, {"preset": "amazon"}, {"shadow": "drop"}, {"name": "{n}"}
    )  # fmt: skip
    combined = itertools.product(
        Output, TURNTABLE_FORMATS, (None, *ClipFormat), (None, "#ffffff"), extras
    )
    forms = [
        {"output": output, "format": kind, "clip_format": clip, "background": background} | extra
        for output, kind, clip, background, extra in combined
    ]
    made = 0
    for form in forms:
        try:
            Options.model_validate(form)
        except ValidationError:
            continue
        options = Options.model_validate({**form, "turntable": True})
        assert options.of_turntable().format is Format.WEBP
        assert options.of_turntable().output is Output.CUTOUT
        made += 1
    assert made > 100
