"""File names of results, made from a template and what is known about the photo."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from shared.errors import BadResultNameError
from shared.object_url import as_read_laxly

OF_PHOTO = ("path", "name", "stem", "folder", "n", "ext")
"""Placeholders that every photo fills. `path` is folder and stem; `name` and `stem` are the file's
name without folder and extension; `n` is the photo's number in its job, from 1; `ext` is the
extension of the result.
"""

OF_RESULT = ("width", "height")
"""Placeholders that are known when the result is made: its size in pixels."""

OF_ROW = "id"
"""The caller's own id of the photo. All other placeholders are columns of a manifest."""

KNOWN = frozenset({*OF_PHOTO, *OF_RESULT, OF_ROW})

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_COLUMN = re.compile(r"[^\W\d_][\w :()-]*")
"""What a placeholder for a column looks like."""


@dataclass(frozen=True, slots=True)
class NamedPhoto:
    """What a photo fills into the placeholders of a template."""

    name: str
    """Its relative path."""
    custom_id: str | None = None
    number: int = 1
    """Its position in the job, from 1."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """The caller's own columns."""


UNNAMED = NamedPhoto("")


def placeholders(template: str) -> Iterator[str]:
    """The names of a template's placeholders."""
    return (found[1] for found in _PLACEHOLDER.finditer(template))


def fixed_text(template: str) -> str:
    """A template without its placeholders."""
    return _PLACEHOLDER.sub("", template)


def check_template(template: str, what: str = "`name`") -> None:
    """Raise ValueError for what can be no placeholder, and for paths that leave their folder."""
    odd = [name for name in placeholders(template) if not _COLUMN.fullmatch(name)]
    if odd or set("{}") & set(fixed_text(template)):
        shown = f"`{{{odd[0]}}}` is no placeholder" if odd else "a brace has no partner"
        raise ValueError(
            f"{what}: {shown}; there are {', '.join(sorted(KNOWN))}, and the columns of a manifest"
        )
    segments = as_read_laxly(template).split("/")
    if segments[0] == "" or {".", ".."} & set(segments) or "\\" in template:
        raise ValueError(f"{what} must be a relative path, without a leading / and without ..")
    if any(ord(char) < 32 or ord(char) == 127 for char in template):
        raise ValueError(f"{what} contains a control character")


def file_name(
    template: str | None, photo: NamedPhoto, extension: str, width: int, height: int
) -> str:
    """The file name of a result. Template None means `{path}.{ext}`. Raises BadResultNameError."""
    path = PurePosixPath(photo.name)
    values = {
        **_of_photo(photo, extension),
        "path": str(path.with_suffix("")) if path.name else "unnamed",
        "stem": path.stem or "unnamed",
        "name": path.stem or "unnamed",
        "width": str(width),
        "height": str(height),
    }
    name = _filled(template or "{path}.{ext}", photo, values)
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or f"unnamed.{extension}"


def filled(template: str, photo: NamedPhoto, extension: str) -> str:
    """A template with the values of a photo. Raises BadResultNameError."""
    return _filled(template, photo, _of_photo(photo, extension))


def _of_photo(photo: NamedPhoto, extension: str) -> dict[str, str]:
    path = PurePosixPath(photo.name)
    return {
        "path": str(path.with_suffix("")) if path.name else "",
        "stem": path.stem,
        "name": path.stem,
        "folder": "" if str(path.parent) == "." else str(path.parent),
        "n": str(photo.number),
        "ext": extension,
    }


def _filled(template: str, photo: NamedPhoto, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1]
        return values[name] if name in values else _given(name, photo)

    return _PLACEHOLDER.sub(value, template)


def _given(name: str, photo: NamedPhoto) -> str:
    """What the caller gave for a photo: its id, or a column. Raises BadResultNameError."""
    value = photo.custom_id if name == OF_ROW else photo.labels.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise BadResultNameError(f"`{name}` is neither text nor a number")
    text = "" if value is None else str(value).strip()
    if not text:
        raise BadResultNameError(f"`{name}` is empty")
    segments = {*text.split("/"), *as_read_laxly(text).split("/")}
    if {"", ".", ".."} & segments or "\\" in text or _is_unprintable(text):
        raise BadResultNameError(f"{text[:80]!r} in `{name}` can't be part of a path")
    return text


def _is_unprintable(text: str) -> bool:
    return any(ord(char) < 32 or 127 <= ord(char) < 160 or _is_half(char) for char in text)


def _is_half(char: str) -> bool:
    """Whether it is a lone surrogate, which has no UTF-8."""
    return "\ud800" <= char <= "\udfff"
