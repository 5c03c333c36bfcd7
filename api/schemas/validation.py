"""Pydantic's errors as one sentence for the caller."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

MOST_FINDINGS = 100
"""Most errors that are described. Each takes a kilobyte for a moment, and a body can contain a
million.
"""


def describe_validation(error: ValidationError) -> str:
    """Pydantic's errors in one line: where, and what."""
    if error.error_count() > MOST_FINDINGS:
        return f"{error.error_count():,} of its values are not what they must be"
    return describe_findings(error.errors(include_url=False, include_input=False))


def describe_findings(errors: Iterable[Any]) -> str:
    """The same for errors that FastAPI has listed already, of a small body."""
    return "; ".join(_finding(one) for one in errors)


def _finding(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    what = error["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
