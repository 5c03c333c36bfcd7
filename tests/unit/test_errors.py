"""Every error has a unique code and says what happened and what to do."""

import re
from collections import Counter

import pytest

from shared import errors
from shared.errors import ImageError, MattingError, TransientError


def every_error() -> list[type[MattingError]]:
    found = [MattingError]
    for one in found:
        found.extend(one.__subclasses__())
    return found


def test_codes_are_unique_and_kebab_case() -> None:
    codes = Counter(one.code for one in every_error())
    assert max(codes.values()) == 1, codes.most_common(3)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_says_what_happened_and_what_to_do(kind: type[MattingError]) -> None:
    error = kind()
    assert error.detail.endswith(".")
    assert len(kind.remedy) > 10
    assert error.message.startswith(error.detail.rstrip("."))
    assert getattr(errors, kind.__name__) is kind
    assert errors.ERRORS[kind.code] is kind


def test_errors_of_an_image_are_never_retried() -> None:
    assert not any(one.retryable for one in every_error() if issubclass(one, ImageError))
    assert all(one.retryable for one in every_error() if issubclass(one, TransientError))
