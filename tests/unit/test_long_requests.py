"""The body of a job with very many rows is validated in pieces, and nothing else in it is long."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from api.schemas import requests
from api.schemas.requests import ROWS_AT_ONCE, JobRequest, validate_job
from api.schemas.sources import KeyRef, Source
from api.submissions.forms import has_long_text
from shared import suggestions
from shared.errors import InvalidOptionsError

MANY = 3 * ROWS_AT_ONCE + 7


def body(rows: list[Any], kind: str = "keys", **more: Any) -> dict[str, Any]:
    return {"source": {kind: rows, **more}, "priority": 7}


def test_rows_in_pieces_are_the_same_rows() -> None:
    rows = [{"key": f"{n}.jpg", "id": str(n)} if n % 2 else f"{n}.jpg" for n in range(MANY)]
    values = body(rows)
    whole = JobRequest.model_validate_json(json.dumps(values))
    assert validate_job(values) == whole
    assert whole.source is not None
    assert whole.source.keys is not None
    assert isinstance(whole.source.keys[1], KeyRef)
    urls = [f"https://shop.example/{n}.jpg" for n in range(MANY)]
    assert validate_job(body(urls, "urls")) == JobRequest.model_validate(body(urls, "urls"))


@pytest.mark.parametrize("place", [ROWS_AT_ONCE, MANY - 1])
def test_a_bad_row_is_named_by_its_place_in_the_body(place: int) -> None:
    rows: list[Any] = ["a.jpg"] * MANY
    rows[place] = {"key": "a.jpg", "colour": "red"}
    with pytest.raises(InvalidOptionsError, match=rf"source\.keys\.{place}\b"):
        validate_job(body(rows))


@pytest.mark.parametrize(
    "values",
    [
        body(["a"] * MANY, prefix="s3://b/p"),
        body(["a"] * MANY, colour="red"),
        body(["a"] * MANY) | {"colour": "red"},
        [body(["a"] * MANY)] * 2,
        "source",
        {"source": ["a"] * MANY},
        {f"field-{number}": 1 for number in range(100_000)},
        body(["a"]) | {"options": {f"field-{number}": 1 for number in range(100_000)}},
        body(["a"]) | {"metadata": {"points": [[1, 2]] * 100_000}},
    ],
)
def test_what_surrounds_many_rows_is_checked_too(values: Any) -> None:
    with pytest.raises((ValidationError, InvalidOptionsError)):
        validate_job(values)


def test_no_call_validates_more_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watched(Source):
        @classmethod
        def model_validate(cls, obj: Any, **more: Any) -> Any:
            sizes.append(len(obj["keys"]))
            return Source.model_validate(obj, **more)

    monkeypatch.setattr(requests, "Source", Watched)
    validate_job(body(["a.jpg"] * MANY))
    assert max(sizes) <= ROWS_AT_ONCE
    assert sum(sizes) == MANY - ROWS_AT_ONCE


def test_options_within_their_limits_are_few_values() -> None:
    labels = {f"label-{number}": "x" * 200 for number in range(50)}
    points = [[0.5, 0.5, 1]] * 20
    values = body(["a"]) | {"metadata": labels, "options": {"subject": {"points": points}}}
    assert validate_job(values).metadata == labels


@pytest.mark.parametrize(
    "text", ["x" * 200_000, "\\" * 200_000, '\\"' * 100_000, " " * 200_000, "\\\\" * 100_000]
)
@pytest.mark.parametrize("place", ['{{"source": {{"prefix": "{}"}}}}', '{{"{}": 1}}', "[{}]"])
def test_a_long_text_is_seen_before_it_is_parsed(text: str, place: str) -> None:
    assert has_long_text(place.format(text).encode())


def test_long_lists_of_ordinary_rows_have_no_long_text() -> None:
    long = "k" * 1_024
    rows: list[Any] = [{"key": f"{long}{n}", "id": 'a"b\\'} for n in range(MANY)]
    assert not has_long_text(json.dumps(body(rows)).encode())
    assert not has_long_text(json.dumps(body(rows), indent=4).encode())
    assert not has_long_text(b"")
    assert not has_long_text(b" " * 60_000)


def test_a_long_name_is_compared_with_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    monkeypatch.setattr(
        suggestions, "get_close_matches", lambda name, *_, **__: compared.append(name)
    )
    for name in ("formatt", "format" * 100_000):
        suggestions.did_you_mean(name, ["format"])
    assert compared == ["formatt"]
