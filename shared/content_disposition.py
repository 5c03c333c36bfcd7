"""Names of files in HTTP headers: Content-Disposition as RFC 6266 and RFC 8187 say."""

import unicodedata
from urllib.parse import quote

MAX_NAME_CHARS = 200
"""Of a name; file systems take 255 bytes, headers and URLs a few thousand."""

ATTRIBUTE_SAFE = "!#$&+-.^_`|~"
"""RFC 8187's attr-char, beside letters and digits."""


def content_disposition(kind: str, name: str) -> str:
    """`inline` or `attachment`, under a name: in ASCII for old programs, whole for the others.
    Storages put the value into a header as it is, and refuse what is not ASCII.
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
    """Whether every program reads it alike in a quoted string; some take `%41` for a letter."""
    return " " <= char <= "~" and char not in '"\\%'
