"""Decodes lists of photos to lines: which encoding a file has, and which lines do not fit it.

The first 64 KiB decide: a byte order mark, the zero bytes of UTF-16, or else UTF-8. If no line
there that is not ASCII is UTF-8, but all read like Western text in Windows-1252, the list is read
so: Excel writes it. A later line that does not fit is marked, so that its row fails and no other.
"""

import codecs
import io
import re
from collections.abc import Iterable, Iterator

from shared.errors import BadManifestError

FEW_ZEROS = 32
"""Most zero bytes in the sample. Some exports have a zero byte in a cell, which costs its row
alone. More, or two in a row, are the sign of a file that is no text.
"""

SAMPLE_BYTES = 64 * 1024

MAX_LINE_CHARS = 256 * 1024
"""Longest line. An endless one would otherwise be collected in memory; the HTML of a product is
shorter.
"""

_MARKS = (
    (codecs.BOM_UTF32_LE, None),
    (codecs.BOM_UTF32_BE, None),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_FILES = {
    b"PK\x03\x04": "an Excel workbook or a zip file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed",
    b"%PDF": "a PDF",
}
"""How files begin that people take for lists."""

_WESTERN = re.compile(
    r"(?:[\x09-\x7e\xa0ÄÖÜäöüßÀÁÂÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕØÙÚÛÝàáâãåæçèéêëìíîïñòóôõøùúûýŒœŠšŽž"
    r"€‚„…‘’“”•–—™®©°¼½¾×·«»§£¥¿¡´ªº±µ]|(?<=[\dm])[²³])*"
)
"""What Western product lists in Windows-1252 consist of. Other code pages give other signs."""

_FOREIGN = re.compile(r"[^\W\d_\x00-\x7f]{3}")
"""Three such letters in a row: Cyrillic or Greek words that are read as Windows-1252 have them."""

_BROKEN = re.compile("[\ud800-\udfff]")


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a list, with any line ending. What could not be decoded is in them as lone
    surrogates (`is_broken`). Raises BadManifestError, also after some lines.
    """
    rest = iter(chunks)
    sample = b""
    for chunk in rest:
        sample += chunk
        if len(sample) >= SAMPLE_BYTES:
            break
    encoding, begin = _encoding_of(sample)
    errors = "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    return _lines(io.IncrementalNewlineDecoder(decoder, translate=True), sample[begin:], rest)


def is_broken(text: str) -> bool:
    """Whether a text has parts that could not be decoded."""
    return not text.isascii() and _BROKEN.search(text) is not None


def _lines(
    decoder: io.IncrementalNewlineDecoder, first: bytes, chunks: Iterator[bytes]
) -> Iterator[str]:
    rest, chunk, final = "", first, False
    while True:
        try:
            *whole, rest = (rest + decoder.decode(chunk, final=final)).split("\n")
        except UnicodeDecodeError as error:
            raise BadManifestError("The list is cut off in the middle of a character") from error
        for line in whole:
            yield line + "\n"
        if len(rest) > MAX_LINE_CHARS:
            raise BadManifestError(f"A line has more than {MAX_LINE_CHARS:,} characters")
        if final:
            break
        following = next(chunks, None)
        chunk, final = (b"", True) if following is None else (following, False)
    if rest:
        yield rest


def _encoding_of(sample: bytes) -> tuple[str, int]:
    """The encoding, and the length of a byte order mark. Raises BadManifestError."""
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            if encoding is None:
                raise BadManifestError("The list is UTF-32 text. Save it as UTF-8")
            return encoding, len(mark)
    for begin, kind in _FILES.items():
        if sample.startswith(begin):
            raise BadManifestError(f"The file is {kind}, not a text file")
    if b"\0" in sample:
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if max(even, odd) >= len(sample) // 8 and min(even, odd) * 4 <= max(even, odd):
            return ("utf-16-le", 0) if odd > even else ("utf-16-be", 0)
        if even + odd > FEW_ZEROS or b"\0\0" in sample:
            raise BadManifestError("The file is binary (it contains zero bytes), not a text file")
    others = [line for line in sample.splitlines() if not line.isascii()]
    if len(sample) >= SAMPLE_BYTES:  # the last line is cut
        others = others[: -1 if others and sample.endswith(others[-1]) else None]
    if others and not any(map(_is_utf8, others)) and all(map(_is_western, others)):
        return "cp1252", 0
    return "utf-8", 0


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_western(line: bytes) -> bool:
    try:
        text = line.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return _WESTERN.fullmatch(text) is not None and _FOREIGN.search(text) is None
