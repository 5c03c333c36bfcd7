"""What is known of an image that was done before, so that its result can be reused."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierResult:
    """The result of an earlier image with the same fingerprint."""

    result_key: str
    outputs: list[dict[str, Any]] | None
    review_reasons: list[str]
    matte_model: str | None
    width: int
    height: int
    output_bytes: int
    crc32: int | None = None
    """Of the main file."""
