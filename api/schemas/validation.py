"""What pydantic found wrong, as a sentence for the caller."""

from typing import Any


def describe_validation(errors: Any) -> str:
    """Pydantic's findings as one line: where, and what."""
    return "; ".join(_finding(one) for one in errors)


def _finding(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    what = error["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
