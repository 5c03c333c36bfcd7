"""Whether a clip's file is complete, by the lengths that its container states.

FFmpeg reads a file that was cut off to where it ends and reports no error.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

EBML_HEADER, SEGMENT = 0x1A45DFA3, 0x18538067
"""Ids of a Matroska file's two top elements (RFC 8794, RFC 9559)."""

TRAILER = b";"
"""The last byte of a GIF (GIF89a specification, section 27)."""

MAX_BOXES = 10_000

INDEX = b"moov"
"""The type of the box that says where the frames of an MP4 lie (ISO 14496-12, section 8.2.1)."""


def is_cut_off(path: Path, kind: str) -> bool:
    """Whether the file ends before its container does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind == "MP4":
            return _boxes_end(file, size) > size
        if kind == "MKV":
            return _segment_end(file) > size
        file.seek(max(0, size - 64))
        return not file.read().rstrip(b"\0").endswith(TRAILER)


def lacks_index(path: Path, kind: str) -> bool:
    """Whether an MP4 was cut off before the box that says where its frames lie. Cameras write it
    last. Fragmented files have one in front.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        return kind == "MP4" and INDEX not in (name for name, _ in _boxes(file, size))


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box at the top level ends."""
    return max((end for _, end in _boxes(file, size)), default=0)


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """The type of each box at the top level, and where it ends (ISO 14496-12, section 4.2)."""
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > size:
            return
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        # 0: to the end of the file; less than a head: padding behind the boxes
        at = at + length if length >= 8 else size
        yield head[4:8], at


def _segment_end(file: BinaryIO) -> int:
    """Where the Matroska segment ends; 0 if the file does not say, as in a live recording."""
    for wanted in (EBML_HEADER, SEGMENT):
        identity = int.from_bytes(file.read(4), "big")
        first = file.read(1)
        if identity != wanted or not first or not first[0]:
            return 0
        width = 9 - first[0].bit_length()
        rest = file.read(width - 1)
        length = int.from_bytes(bytes([first[0] & (0xFF >> width)]) + rest, "big")
        if length == (1 << 7 * width) - 1:
            return 0  # of unknown length
        if wanted == SEGMENT:
            return file.tell() + length
        file.seek(length, 1)
    return 0
