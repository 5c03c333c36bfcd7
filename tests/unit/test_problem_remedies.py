"""The remedy of refused input fits what is wrong with it."""

from typing import Any

import pytest

from api.http.problems import remedy_for


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"type": "json_invalid", "loc": ("body", 7)}, "valid JSON"),
        ({"type": "uuid_parsing", "loc": ("path", "job_id")}, "an id that the service gave you"),
        ({"type": "enum", "loc": ("query", "status")}, "parameter"),
        ({"type": "list_type", "loc": ("body", "source", "urls")}, "Correct the body"),
    ],
)
def test_the_remedy_names_what_to_correct(error: dict[str, Any], words: str) -> None:
    assert words in (remedy_for([error]) or "")


def test_wrong_options_keep_their_remedy() -> None:
    assert remedy_for([{"type": "enum", "loc": ("body", "options", "format")}]) is None
