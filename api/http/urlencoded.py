"""Reads urlencoded forms within limits."""

import itertools
import tempfile
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from api.http.multipart import FilePart, Form, FormLimits
from api.http.part_names import text_of
from shared.errors import RequestTooLargeError

MAX_NAME_BYTES = 1_000
"""Longest name of a field; no known field has a longer one."""

UNQUOTE_BYTES = 256 * 1024
"""Bytes unquoted at a time; unquoting creates a Python object for each `%`."""


def read_urlencoded(body: bytearray, limits: FormLimits) -> Form:
    """The fields of `a=b&c=d`. Raises RequestTooLargeError."""
    form, text_bytes, start = Form(), 0, 0
    for number in itertools.count(1):
        if number > limits.fields:
            raise RequestTooLargeError(f"The form has more than {limits.fields:,} text fields")
        end = body.find(b"&", start)
        end = len(body) if end < 0 else end
        equals = body.find(b"=", start, end)
        equals = end if equals < 0 else equals
        name = text_of(b"".join(_unquoted(body, start, min(equals, start + MAX_NAME_BYTES))))
        if name in limits.spooled and equals + 1 >= end:
            pass  # not given
        elif name in limits.spooled:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - the form closes it
            form.own(file)
            for piece in _unquoted(body, equals + 1, end):
                file.write(piece)
            file.seek(0)
            form.files.append(FilePart(name, "", file))
        else:
            text_bytes += end - equals
            if text_bytes > limits.text_bytes:
                limit = limits.text_bytes
                raise RequestTooLargeError(
                    f"The text fields have more than {limit:,} bytes together"
                )
            form.fields[name] = text_of(b"".join(_unquoted(body, equals + 1, end)))
        if end == len(body):
            return form
        start = end + 1
    raise AssertionError


def _unquoted(text: bytearray, start: int, end: int) -> Iterator[bytes]:
    """Percent-decode a text piece by piece."""
    while start < end:
        stop = min(start + UNQUOTE_BYTES, end)
        if stop < end and (cut := text.rfind(b"%", stop - 2, stop)) >= 0:
            stop = cut  # do not split a `%41`
        yield unquote_to_bytes(bytes(text[start:stop]).replace(b"+", b" "))
        start = stop
