"""The directories of a TIFF, read before any decoder sees the file.

Files that would take minutes are refused, and so are files whose first picture is not the photo:
camera raw, and files that begin with a preview.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.errors import CameraRawError, TooCostlyImageError, UnsupportedImageError
from shared.photo_kinds import raw_kind
from shared.png_chunks import MOST_PARTS, too_many_parts

MOST_TILE_PIXELS = 2048**2
"""Most pixels of a TIFF tile, or twice the picture's pixels if that is more. A tile is decoded
completely, however little of it is within the picture.
"""

MOST_DIRECTORIES = 32
"""Most directories that are looked at for a larger picture than the first one."""

NEW_SUBFILE_TYPE, SUBFILE_TYPE = 254, 255
WIDTH, LENGTH, PHOTOMETRIC = 256, 257, 262
STRIP_OFFSETS, STRIP_LENGTHS, TILE_OFFSETS, TILE_LENGTHS = 273, 279, 324, 325
TILE_WIDTH, TILE_LENGTH, SUB_DIRECTORIES = 322, 323, 330
PARTS = frozenset({STRIP_OFFSETS, STRIP_LENGTHS, TILE_OFFSETS, TILE_LENGTHS})
"""TIFF 6.0: offsets and lengths of strips and tiles."""

COLOUR_FILTER_ARRAY, LINEAR_RAW = 32803, 34892
"""Values of the photometric interpretation that only camera raw has (TIFF/EP, DNG 1.7)."""

RAW_TAGS = {50706: "Adobe DNG", 33421: "TIFF/EP", 50752: "Canon CR2", 50341: ""}
"""Tags that only camera raw has: DNGVersion, CFARepeatPatternDim, CR2's slices."""

INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L", 16: "Q", 17: "q", 18: "Q"}
"""Codes of `struct` by the field types of integers (TIFF 6.0, BigTIFF)."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One picture's fields: for each tag its count and, of integers, the first values."""

    counts: dict[int, int] = field(default_factory=dict)
    values: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def value(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        return (self.values.get(tag) or (default,))[0]

    @property
    def is_preview(self) -> bool:
        """Whether it says of itself that it is a smaller version of another picture."""
        return bool(self.value(NEW_SUBFILE_TYPE) & 1) or self.value(SUBFILE_TYPE) == 2

    @property
    def is_raw(self) -> bool:
        """Whether it holds what a sensor saw."""
        return self.value(PHOTOMETRIC) in (COLOUR_FILTER_ARRAY, LINEAR_RAW)


def refuse_other_tiff(data: bytes) -> None:
    """Refuse a TIFF that is costly, camera raw, or begins with a preview.

    Raises TooCostlyImageError, CameraRawError, UnsupportedImageError.
    """
    directories = tiff_directories(data)
    first = next(directories, None)
    if first is None:
        return
    _refuse_costly(first)
    others = list(directories)
    name = raw_kind(data[:64]) or _raw_by_tags(first, others)
    if name:
        raise CameraRawError(f"The file is camera raw ({name})")
    if first.is_preview or any(_is_larger(other, first) for other in others):
        raise UnsupportedImageError(
            f"The TIFF's first picture, {first.value(WIDTH)} x {first.value(LENGTH)} pixels, is "
            "only a preview of another one in the file"
        )


def has_size(data: bytes) -> bool:
    """Whether the first directory is whole enough to say how large the picture is."""
    first = next(tiff_directories(data), Directory())
    return bool(first.value(WIDTH) and first.value(LENGTH) and STRIP_OFFSETS in first.counts)


def _raw_by_tags(first: Directory, others: list[Directory]) -> str | None:
    for directory in (first, *others):
        found = directory.counts.keys() & RAW_TAGS.keys()
        if directory.is_raw or found - {50341}:
            return next((RAW_TAGS[tag] for tag in sorted(found, reverse=True)), "sensor data")
    return None


def _is_larger(other: Directory, first: Directory) -> bool:
    """Whether another picture is the first one, larger: of the same shape and far more pixels."""
    width, height = first.value(WIDTH), first.value(LENGTH)
    wide, high = other.value(WIDTH), other.value(LENGTH)
    if other.is_preview or not width or not height or wide < 1.5 * width or high < 1.5 * height:
        return False
    return abs(wide * height - high * width) < 0.05 * wide * height


def _refuse_costly(first: Directory) -> None:
    """Refuse a TIFF with too many strips or too large tiles: Pillow lists all of them when it opens
    a file.
    """
    if any(first.counts.get(tag, 0) > MOST_PARTS for tag in PARTS):
        raise too_many_parts()
    tile_width, tile_length = first.value(TILE_WIDTH), first.value(TILE_LENGTH)
    pixels = first.value(WIDTH) * first.value(LENGTH)
    if tile_width * tile_length > max(MOST_TILE_PIXELS, 2 * pixels):
        raise TooCostlyImageError(
            f"The TIFF's tiles have {tile_width} x {tile_length} pixels, far more than the picture"
        )


def tiff_directories(data: bytes) -> Iterator[Directory]:
    """The directories of a file, the first one first; those below each follow it.

    A truncated file gives those that can be read. Raises TooCostlyImageError.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
    except struct.error:
        return
    waiting, seen = [start], set[int]()
    while waiting and len(seen) < MOST_DIRECTORIES:
        start = waiting.pop(0)
        if start in seen or not start:
            continue
        seen.add(start)
        try:
            directory, following = _read(data, start, order, big=big)
        except struct.error:  # a truncated file, which Pillow reports
            continue
        yield directory
        waiting = [*directory.values.get(SUB_DIRECTORIES, ()), *waiting, following]


MOST_VALUES = 16
"""Values that are read of one field. Strips and tiles have more and are not needed."""


def _read(data: bytes, start: int, order: str, *, big: bool) -> tuple[Directory, int]:
    """A directory and the offset of the next one. Raises struct.error, TooCostlyImageError."""
    (fields,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    if fields > MOST_PARTS:
        raise too_many_parts()
    entry = struct.Struct(order + ("HHQ8s" if big else "HHL4s"))
    position = start + (8 if big else 2)
    directory = Directory()
    for _ in range(fields):
        tag, kind, count, inline = entry.unpack_from(data, position)
        position += entry.size
        directory.counts[tag] = max(count, directory.counts.get(tag, 0))
        if kind in INTEGERS:
            code = f"{order}{min(count, MOST_VALUES)}{INTEGERS[kind]}"
            source, place = inline, 0
            if struct.calcsize(f"{order}{INTEGERS[kind]}") * count > len(inline):
                source = data
                (place,) = struct.unpack(order + ("Q" if big else "L"), inline)
            try:
                values = struct.unpack_from(code, source, place)
            except struct.error:
                continue
            # Of a tag that comes twice, the larger value counts: the limits are for the worst.
            directory.values[tag] = max(values, directory.values.get(tag, ()))
    try:
        (following,) = struct.unpack_from(order + ("Q" if big else "L"), data, position)
    except struct.error:
        following = 0
    return directory, following
