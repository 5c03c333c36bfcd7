"""The body of a job with very many rows is validated in pieces."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from api.schemas import requests
from api.schemas.requests import ROWS_AT_ONCE, JobRequest, validate_job
from api.schemas.sources import KeyRef, Source
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
