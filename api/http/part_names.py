"""Reads the Content-Disposition of a part of a form: the names of its field and of its file.

A name that is not ASCII comes in four forms: as plain UTF-8 (browsers, curl, Go, Python), as
`filename*` (RFC 8187: .NET, Java), as an encoded word (RFC 2047: .NET beside `filename*`, mail
libraries), and with `%22` for a quote (the HTML standard).
"""

import re
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from typing import Any

_ENCODED_WORDS = re.compile(r"(?:\s*=\?[^?\s]+\?[bBqQ]\?[^?]*\?=)+\s*")

_HTML_ESCAPES = {"%22": '"', "%0D": "\r", "%0d": "\r", "%0A": "\n", "%0a": "\n"}
"""How browsers write these in a name; every other percent sign is the name's own."""

_INDEX = re.compile(r"\[\d*\]$")
"""PHP, Rails and axios call the fields of a list `files[]` or `files[0]`."""


@dataclass(frozen=True, slots=True)
class PartNames:
    """The names of a part."""

    field: str
    file: str | None
    """None: the part has no file name."""


def part_names(disposition: bytes) -> PartNames | None:
    """The names in a Content-Disposition; None if it names no field, or cannot be read."""
    header = Message()
    header["content-disposition"] = disposition.decode("latin-1")
    try:
        parameters: list[tuple[str, Any]] = header.get_params([], "content-disposition")
    except (TypeError, ValueError):  # parts of an extended value that contradict each other
        return None
    plain: dict[str, str] = {}
    extended: dict[str, str] = {}
    for name, value in parameters:
        if isinstance(value, tuple):
            extended[name.lower()] = _in_charset(value[2], value[0])
        else:
            plain.setdefault(name.lower(), value)
    field = extended.get("name") or _decoded(plain.get("name", ""))
    if not field:
        return None
    file = extended.get("filename")
    if file is None and "filename" in plain:
        file = _file_name(_decoded(plain["filename"]))
    return PartNames(_INDEX.sub("", field), file)


def _file_name(text: str) -> str:
    if _ENCODED_WORDS.fullmatch(text):
        return _from_words(text)
    for escape, char in _HTML_ESCAPES.items():
        text = text.replace(escape, char)
    # Old browsers send the whole path on the sender's disk.
    return text.rsplit("\\", 1)[-1] if text[1:3] == ":\\" or text[:2] == "\\\\" else text


def _from_words(text: str) -> str:
    """Encoded words as text; what cannot be decoded stays as it is."""
    try:
        return "".join(
            word.decode(charset or "ascii") if isinstance(word, bytes) else word
            for word, charset in decode_header(text)
        )
    except (HeaderParseError, LookupError, ValueError):
        return text


def _in_charset(text: str, charset: str | None) -> str:
    """An extended value, whose bytes stand in `text` as latin-1."""
    try:
        return text.encode("latin-1").decode(charset or "utf-8")
    except (LookupError, ValueError):
        return _decoded(text)


def _decoded(text: str) -> str:
    """Bytes that stand in `text` as latin-1."""
    try:
        return text_of(text.encode("latin-1"))
    except ValueError:
        return text


def text_of(data: bytes | bytearray) -> str:
    """The text of a form's bytes: UTF-8, or else latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
