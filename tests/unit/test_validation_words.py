"""Refused input is described by field, value and what is allowed, never in Pydantic's words."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from api.schemas.requests import JobRequest
from shared.options import Options
from shared.suggestions import closest
from shared.validation_words import MOST_FINDINGS, describe_validation


def said(model: type[BaseModel], value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return describe_validation(caught.value, model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bg": "white"}, "Unknown option `bg`. Did you mean `background`?"),
        ({"fromat": "png"}, "Unknown option `fromat`. Did you mean `format`?"),
        ({"size": "800x800"}, "Unknown option `size`. Did you mean `canvas`?"),
        ({"format": "gif"}, '`format` "gif" is not one of png, webp, jpeg, avif, zip or psd.'),
        ({"quality": 300}, "`quality` 300 must be at most 100."),
        ({"quality": 9.5}, "`quality` 9.5 must be a whole number."),
        ({"crop": "maybe"}, '`crop` "maybe" must be true or false.'),
        ({"roi": [0, 0, 1]}, "`roi` has too few entries."),
        ({"scale": 2}, "`scale` 2 must be at most 1."),
        (
            {"canvas": "100000x100000"},
            "canvas: each side of the canvas must have 1 to 10000 pixels.",
        ),
        ({"shadow": "soft"}, '`shadow.kind` "soft" is not one of drop or contact.'),
        (
            {"background": {"gradient": ["#fff", "#000"], "angle": 3}},
            "Unknown field `angle` in `background`. Did you mean `angle_deg`?",
        ),
        (
            {"extra_outputs": [{"name": "x.png", "formt": "png"}]},
            "Unknown option `formt` in `extra_outputs.0`. Did you mean `format`?",
        ),
        (
            {"format": "jpeg"},
            "JPEG has no transparency: set `background`, such as white, or use png or webp.",
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_what_is_allowed(
    options: dict[str, Any], words: str
) -> None:
    assert said(Options, options) == words


def test_an_option_with_several_forms_says_all_of_them() -> None:
    words = said(Options, {"background": "blau"})
    assert words.startswith('`background` "blau" is not allowed. Allowed: `#rrggbb`, `#rgb`')


def test_unknown_fields_are_named_at_every_depth() -> None:
    body = {"source": {"prefx": "s3://a/"}, "optoins": {}, "options": {"bg": 1}}
    words = said(JobRequest, body)
    assert "Unknown field `prefx` in `source`. Did you mean `prefix`?" in words
    assert "Unknown field `optoins`. Did you mean `options`?" in words
    assert "Unknown option `bg`. Did you mean `background`?" in words


def test_secrets_and_long_values_are_not_repeated() -> None:
    hook = {"url": "https://a.example", "secret": "my-secret"}
    assert "my-secret" not in said(JobRequest, {"source": {"prefix": "a"}, "webhook": hook})
    assert len(said(Options, {"canvas": "x" * 100_000})) < 400
    assert len(said(Options, {"x" * 100_000: 1})) < 1_000


def test_very_many_errors_are_counted_instead() -> None:
    many = {f"x{number}": 1 for number in range(MOST_FINDINGS + 1)}
    assert said(Options, many).startswith("101 of its values")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("bg", "background"), ("Format", "format"), ("max-bytes", "max_bytes"), ("zzz", None)],
)
def test_a_suggestion_is_only_made_when_a_name_is_close(given: str, meant: str | None) -> None:
    assert closest(given, Options.model_fields) == meant


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("white", "#ffffff"),
        ("#fa0", "#ffaa00"),
        ("RebeccaPurple", "#663399"),
        ("#AbCdEf", "#AbCdEf"),
    ],
)
def test_a_colour_may_be_written_as_css_has_it(given: str, stored: str) -> None:
    assert Options.model_validate({"background": given}).background == stored
