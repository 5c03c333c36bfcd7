"""Suggests the name that a person probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

SIMILAR = 0.6
"""Least similarity of a suggestion, 0..1 (difflib's own default)."""

LONGEST_NAME = 64
"""Characters of a name that may be a typing error. Comparing takes as long as the name is."""

OTHER_NAMES = {
    "bg_color": "background",
    "bg_image_url": "background",
    "channels": "output",
    "color": "background",
    "colour": "background",
    "file_format": "format",
    "files": "uploads",
    "keep_original_alpha": "keep_alpha",
    "marketplace": "market",
    "resize": "canvas",
    "size": "canvas",
    "type": "format",
}
"""Names that other services use for the same thing."""


def closest(name: str, names: Iterable[str]) -> str | None:
    """The name among `names` that `name` probably means; None if none is close."""
    if len(name) > LONGEST_NAME:
        return None
    known = sorted(names)
    lower = name.lower().replace("-", "_")
    if lower in known:
        return lower
    if (other := OTHER_NAMES.get(lower)) in known:
        return other
    if near := get_close_matches(lower, known, n=1, cutoff=SIMILAR):
        return near[0]
    return next((one for one in known if _abbreviates(lower, one)), None)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`Did you mean ...?`, or the list of all names when none is close."""
    known = sorted(names)
    near = closest(name, known)
    if near is not None:
        return f"Did you mean `{near}`?"
    return f"There are: {', '.join(known)}." if known else "None is allowed here."


def _abbreviates(short: str, name: str) -> bool:
    """Whether `short` holds letters of `name` in their order, from the first one: `bg` for
    `background`.
    """
    if len(short) < 2 or not name.startswith(short[0]):
        return False
    letters = iter(name)
    return all(letter in letters for letter in short)
