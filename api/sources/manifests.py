"""Parses lists of photos: CSV with a header, one JSON object per line, or an XML feed; streamed, of
any size.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from api.schemas.sources import Feed
from api.sources.feeds import BadRow, Reader, reader_of
from api.sources.list_text import MAX_LINE_CHARS, is_broken, lines_of
from api.sources.source_policy import INVISIBLE
from api.sources.xml_feeds import xml_rows
from shared.errors import BadManifestError

MAX_COLUMNS = 500
"""A shop's export has a column for each attribute."""

MEANT = frozenset({"key", "url", "id"})
"""Columns that decide: they may come only once."""

WEB_PAGES = (b"<!doctype html", b"<html")

_END = "\x00end"
"""A mark behind the last line. If a cell contains it, a quote was never closed."""

_QUOTED_PARTS = re.compile(r'"(?:[^"]|"")*"')
_TEXT_FORMULA = re.compile(r'^="([^"]*)"$')
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""Excel's own way to name the delimiter."""

csv.field_size_limit(MAX_LINE_CHARS)


def read_rows(chunks: Iterable[bytes], feed: Feed | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a list; its first character shows the format. `feed`: the layout, if the header
    does not tell.

    A row that cannot be read is a BadRow. Raises BadManifestError, also after some rows.
    """
    rest = iter(chunks)
    head = b""
    while not (shown := head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")):
        if (chunk := next(rest, None)) is None:
            break
        head += chunk
        if len(head) > MAX_LINE_CHARS and not head.strip(b"\0 \t\r\n"):
            raise BadManifestError("The list begins with too many blank lines")
    everything = chain([head], rest)
    if shown[:20].lower().startswith(WEB_PAGES):
        raise BadManifestError("The file is a web page, not a list")
    if shown.startswith(b"<"):
        return xml_rows(everything)
    lines = lines_of(everything)
    line = next((one for one in lines if one.strip()), "")
    if not line:
        raise BadManifestError("The list is empty")
    if line.lstrip().startswith("{"):
        return _json_rows(chain([line], lines))
    if line.lstrip().startswith("["):
        raise BadManifestError(
            "The list is a JSON array. Write each object on a line of its own, without brackets "
            "around them and commas between them"
        )
    return _csv_rows(line, lines, feed)


def _json_rows(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError):  # also raised for a number with thousands of digits
            row = None
        if is_broken(line):
            yield BadRow(f"Line {number} is not UTF-8")
        elif isinstance(row, dict):
            yield row
        else:
            yield BadRow(f"Line {number} is no JSON object")


def _no_number(text: str) -> None:
    """Refuse NaN and Infinity: they are not JSON, and databases cannot store them."""
    raise ValueError(text)


def _csv_rows(first: str, lines: Iterator[str], feed: Feed | None) -> Iterator[dict[str, Any]]:
    named = _SEPARATOR_LINE.fullmatch(first)
    if named:
        first = next((one for one in lines if one.strip()), "")
    delimiter = named[1] if named else _delimiter_of(first)
    records = csv.reader(
        chain([first], lines, [_END]), delimiter=delimiter, skipinitialspace=delimiter != "\t"
    )
    number = 0
    try:
        header = _header(next(records))
        read = reader_of([name for name in header if name], feed)
        for cells in records:
            if cells == [_END]:
                return
            if any(_END in cell for cell in cells):
                break
            if any(cell.strip() for cell in cells):
                number += 1
                yield from _rows_of(header, cells, number, read)
    except csv.Error as error:
        raise BadManifestError(f"Row {number + 1} can't be read: {error}") from error
    except BadManifestError as error:
        if not number:
            raise
        raise BadManifestError(f"Row {number + 1} can't be read: {error.detail}") from error
    raise BadManifestError(f"Row {number + 1} has a quote that is never closed")


def _delimiter_of(header: str) -> str:
    """The delimiter of a header; in a list of one column, one that no address contains."""
    bare = _QUOTED_PARTS.sub("", header)
    found = max(",;\t|", key=bare.count)
    return found if found in bare else "\t"


def _header(cells: Sequence[str]) -> list[str]:
    """The names of the columns; a column without a name is ignored. Raises BadManifestError."""
    names = [_bare(cell) for cell in cells]
    if _END in "".join(names):
        raise BadManifestError("The list has no rows, or a quote in its header is never closed")
    while names and not names[-1]:
        names.pop()
    if any(map(is_broken, names)):
        raise BadManifestError("The header is neither UTF-8 nor Western Windows text")
    if len(names) > MAX_COLUMNS:
        raise BadManifestError(f"The header has more than {MAX_COLUMNS} columns")
    lower = [name.lower() for name in names]
    for name in MEANT:
        if lower.count(name) > 1:
            raise BadManifestError(f"The header names the column `{name}` twice")
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if name and seen[name] > 1:
            names[place] = f"{name}_{seen[name]}"
    return names


def _rows_of(
    header: Sequence[str], cells: Sequence[str], number: int, read: Reader
) -> Iterator[dict[str, Any]]:
    """The rows of one record."""
    bare = [_bare(cell) for cell in cells]
    named = {name: cell for name, cell in zip(header, bare, strict=False) if name and cell}
    problem = None
    if any(map(is_broken, bare)):
        problem = "is not in the encoding of the list's beginning; save the list as UTF-8"
    elif any(bare[len(header) :]):
        problem = f"has {len(bare)} cells, the header {len(header)}: put quotes around commas"
    if problem is not None:
        readable = {name: cell for name, cell in named.items() if not is_broken(cell)}
        yield BadRow(f"Row {number} {problem}", next(read(readable), {}))
        return
    for row in read(named):
        if isinstance(row, BadRow):
            row.problem = f"Row {number} {row.problem}"
        yield row


def _bare(cell: str) -> str:
    """A cell without blanks around it, and without the formula that keeps Excel from taking it for
    a number: `="00123"` is 00123.
    """
    return _TEXT_FORMULA.sub(r"\1", cell.strip().strip(INVISIBLE).strip())
