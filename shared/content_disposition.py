"""File names in HTTP headers: Content-Disposition by RFC 6266 and RFC 8187."""

import unicodedata
from urllib.parse import quote

MAX_NAME_CHARS = 200
"""Longest name; file systems allow 255 bytes, headers and URLs a few thousand."""

ATTRIBUTE_SAFE = "!#$&+-.^_`|~"
"""RFC 8187's attr-char besides letters and digits."""


def content_disposition(kind: str, name: str) -> str:
    """A Content-Disposition header: `inline` or `attachment`, with an ASCII name for old programs
    and the full name for others. Storages copy the value into a header and refuse non-ASCII
    characters.
    """
    shown = "".join(char for char in name if unicodedata.category(char) not in ("Cc", "Cs"))
    stem, dot, extension = shown.rpartition(".")
    if dot and len(extension) < MAX_NAME_CHARS:
        shown = f"{stem[: MAX_NAME_CHARS - len(extension) - 1]}.{extension}"
    shown = shown[:MAX_NAME_CHARS] or "unnamed"
    plain = "".join(char if _is_plain(char) else "_" for char in shown)
    value = f'{kind}; filename="{plain}"'
    if plain != shown:
        value += f"; filename*=UTF-8''{quote(shown, safe=ATTRIBUTE_SAFE)}"
    return value


def _is_plain(char: str) -> bool:
    """Whether every program reads the name the same way in a quoted string; some decode `%41`."""
    return " " <= char <= "~" and char not in '"\\%'
