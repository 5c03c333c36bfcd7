"""Parses manifests: CSV with a header, or one JSON object per line; streamed, of any size."""

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from shared.errors import BadManifestError

MAX_LINE_CHARS = 64 * 1024
"""Longest row. An endless row would otherwise be collected in memory."""

MAX_COLUMNS = 200


def read_rows(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The rows of a manifest; its first character shows the format.

    A JSONL line that is not an object gives an empty row, which becomes a bad-manifest-row. Raises
    BadManifestError, also after some rows.
    """
    lines = _lines(chunks)
    first = next(lines, "")
    while first and not first.strip():
        first = next(lines, "")
    if not first:
        raise BadManifestError("The manifest is empty")
    everything = _chained(first, lines)
    return _json_rows(everything) if first.lstrip().startswith("{") else _csv_rows(everything)


def _json_rows(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError):  # also raised for a number with thousands of digits
            row = {}
        yield row if isinstance(row, dict) else {}


def _no_number(text: str) -> None:
    """Refuse NaN and Infinity: they are not JSON, and databases cannot store them."""
    raise ValueError(text)


def _csv_rows(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    header_line = next(lines)
    delimiter = max(",;\t", key=header_line.count)
    header = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter))]
    # Spreadsheets write `Key` and `URL`; the caller's own columns keep their spelling.
    header = [name.lower() if name.lower() in ("key", "url", "id") else name for name in header]
    if not {"key", "url"} & set(header):
        raise BadManifestError("The header has neither a column `key` nor a column `url`")
    if len(header) > MAX_COLUMNS or len(set(header)) != len(header):
        raise BadManifestError("The header repeats a column or has too many columns")
    try:
        for cells in csv.reader(lines, delimiter=delimiter):
            if any(cell.strip() for cell in cells):
                named = zip(header, cells, strict=False)
                yield {name: cell for name, cell in named if name and cell != ""}
    except csv.Error as error:
        raise BadManifestError(f"The CSV is damaged: {error}") from error


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8, with or without a byte order mark, with any line ending."""
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder("utf-8-sig")(), translate=True
    )
    rest = ""
    try:
        for chunk in chunks:
            *whole, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in whole:
                yield line + "\n"
            if len(rest) > MAX_LINE_CHARS:
                raise BadManifestError(f"A line has more than {MAX_LINE_CHARS:,} characters")
        rest += decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise BadManifestError(f"The manifest is not UTF-8: {error.reason}") from error
    if rest:
        yield rest


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
