"""Reads multipart forms into one file on disk.

Starlette's reader keeps up to 1 MiB of every part in memory, and a file descriptor for each larger
one. Here all parts of a request are in one unnamed file, and each part is a window on it.
"""

import io
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any, Self

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.http.part_names import part_names, text_of
from shared.errors import RequestError, RequestTooLargeError

WRITE_BYTES = 1024**2
"""Bytes collected in memory before a thread writes them to disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """Limits of a form."""

    files: int
    fields: int
    """Most text fields."""
    text_bytes: int = 1024**2
    """Most bytes of all text fields together, which are held in memory."""
    spooled: frozenset[str] = frozenset()
    """Fields that are files, written to disk and counted as such, even without a file name."""
    texts: frozenset[str] = frozenset()
    """Fields that are text, even with a file name: browsers call a JSON Blob `blob`."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file of a form."""

    field: str
    name: str
    """The caller's file name; may be empty."""
    stream: IO[bytes]


@dataclass(slots=True)
class Form:
    """A form that was read. It is a context manager that closes its files."""

    fields: dict[str, str] = field(default_factory=dict)
    """If a name occurs twice, the last field counts."""
    files: list[FilePart] = field(default_factory=list)
    """Without those that were not given: HTML forms send an empty part without a file name for a
    field that nobody touched.
    """
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def named(self, name: str) -> list[FilePart]:
        """The files of a field."""
        return [file for file in self.files if file.field == name]

    def own(self, stream: IO[bytes]) -> None:
        """Close it together with the form."""
        self._open.callback(stream.close)


class Window(io.RawIOBase):
    """A section of a file, read with `pread`, so that windows on one file do not affect
    each other.
    """

    def __init__(self, file: int, start: int, size: int) -> None:
        """`file`: a descriptor that the owner of the file closes."""
        self._file = file
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def tell(self) -> int:
        """The position within the window."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position, like any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer with bytes of the window."""
        left = max(0, self._size - self._position)
        view = memoryview(buffer)[:left]
        count = os.preadv(self._file, [view], self._start + self._position) if left else 0
        self._position += count
        return count


async def read_multipart(request: Request, limits: FormLimits) -> Form:
    """Read the form in a request's body. Raises RequestError, RequestTooLargeError, and what
    `receive` raises.
    """
    _, parameters = parse_options_header(request.headers.get("content-type", ""))
    boundary = next((one for name, one in parameters.items() if name.lower() == b"boundary"), b"")
    if not boundary:
        raise RequestError(
            "The header Content-Type has no `boundary`. Let your HTTP library write this header"
        )
    form = Form()
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the form closes it
        form.own(file)
        await _Reader(form, file, boundary, limits).read(request)
    except BaseException:
        form.__exit__()
        raise
    return form


class _Reader:
    """Converts the parser's events to a form."""

    def __init__(self, form: Form, file: IO[bytes], boundary: bytes, limits: FormLimits) -> None:
        self._form = form
        self._file = file
        self._limits = limits
        self._unwritten = bytearray()
        self._written_bytes = 0
        self._header = [bytearray(), bytearray()]
        self._disposition = b""
        self._field = ""
        self._file_name: str | None = None
        self._text = bytearray()
        self._text_bytes = 0
        self._fields = 0
        self._start = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_name_comes,
                    "on_header_value": self._header_value_comes,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data_comes,
                    "on_part_end": self._part_ends,
                    "on_end": self._form_ends,
                },
            )
        except FormParserError as error:
            raise RequestError(f"The multipart body can't be read: {error}") from error

    async def read(self, request: Request) -> None:
        """Read the whole body. Raises as `read_multipart`."""
        async for chunk in request.stream():
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise RequestError(f"The multipart body is damaged: {error}") from error
            if len(self._unwritten) >= WRITE_BYTES:
                await run_in_threadpool(self._write)
        await run_in_threadpool(self._write)
        self._file.flush()
        if not self._ended:
            raise RequestError("The multipart body ends before its last boundary")

    def _write(self) -> None:
        self._file.write(self._unwritten)
        self._written_bytes += len(self._unwritten)
        self._unwritten = bytearray()

    @property
    def _position(self) -> int:
        return self._written_bytes + len(self._unwritten)

    def _part_begins(self) -> None:
        self._disposition = b""

    def _header_name_comes(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value_comes(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_ends(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = bytes(self._header[1])
        self._header = [bytearray(), bytearray()]

    def _headers_end(self) -> None:
        names = part_names(self._disposition)
        if names is None:
            raise RequestError("A part of the multipart body has no name")
        self._field = names.field
        self._file_name = None
        if self._field not in self._limits.texts:
            self._file_name = names.file
            if names.file is None and self._field in self._limits.spooled:
                self._file_name = ""
        self._start = self._position
        self._text = bytearray()
        self._fields += self._file_name is None
        if self._fields > self._limits.fields:
            raise RequestTooLargeError(
                f"The form has more than {self._limits.fields:,} text fields"
            )
        if self._file_name is not None and len(self._form.files) >= self._limits.files:
            raise RequestTooLargeError(f"The request has more than {self._limits.files:,} files")

    def _data_comes(self, data: bytes, start: int, end: int) -> None:
        if self._file_name is not None:
            self._unwritten += memoryview(data)[start:end]
            return
        self._text_bytes += end - start
        if self._text_bytes > self._limits.text_bytes:
            limit = self._limits.text_bytes
            raise RequestTooLargeError(f"The text fields have more than {limit:,} bytes together")
        self._text += memoryview(data)[start:end]

    def _part_ends(self) -> None:
        if self._file_name is None:
            self._form.fields[self._field] = text_of(self._text)
            return
        if not self._file_name and self._start == self._position:
            return
        window = Window(self._file.fileno(), self._start, self._position - self._start)
        stream: IO[bytes] = io.BufferedReader(window, 64 * 1024)
        self._form.files.append(FilePart(self._field, self._file_name, stream))

    def _form_ends(self) -> None:
        self._ended = True
