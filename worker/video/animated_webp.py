"""Animated WebP files: what libwebp leaves out of them, and one file from several.

FFmpeg does not tell libwebp when the last frame ends, so libwebp writes the average of the others.
And libwebp stores only the part of a frame that changes. If all parts are opaque rectangles, it
says that the picture is not transparent, and programs show white around them.

A picture that does not change is stored once, for the time of all its frames.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import PIL.Image

from shared.errors import OutputTooLargeError
from worker.imaging.arrays import Image

FRAME = b"ANMF"
FRAME_HEAD_BYTES = 16
DURATION_AT = 12
"""Place of the duration in a frame's chunk, 24 bits in milliseconds (RFC 9649, section 2.7.1.1)."""

FLAGS_OF_FRAME_AT = 15
REPLACES = 0x02
"""The flag of a frame that is not blended with what was there before."""

MOST_MS = 0xFFFFFF

HEAD = b"VP8X"
FLAGS_AT = 20
"""Place of the flags in the file (RFC 9649, section 2.7)."""

ALPHA, ANIMATION = 0x10, 0x02

MOST_BYTES = 2**32 - 2**16
"""The size of a file has 32 bits."""

METHOD = 2
"""Speed of libwebp, as FFmpeg's compression_level 2."""


def set_transparent(path: Path) -> None:
    """Say that the picture is transparent. A file without this header holds one frame as it is."""
    with path.open("r+b") as file:
        start = file.read(FLAGS_AT + 1)
        if start[12:16] == HEAD:
            file.seek(FLAGS_AT)
            file.write(bytes([start[FLAGS_AT] | ALPHA]))


def set_duration(path: Path, duration_ms: int) -> None:
    """Write the duration of the last frame, so that all together have this one. A file with one
    frame has none.
    """
    with path.open("r+b") as file:
        frames = [at for kind, at, _ in _chunks(file) if kind == FRAME]
        if frames:
            before_ms = 0
            for at in frames[:-1]:
                file.seek(at + DURATION_AT)
                before_ms += int.from_bytes(file.read(3), "little")
            file.seek(frames[-1] + DURATION_AT)
            file.write(_duration(duration_ms - before_ms))


def make_independent(path: Path, first: Image, quality: int) -> None:
    """Let the first frame, of these pixels, replace the whole picture, so that the file can follow
    another one. libwebp stores only what differs from a transparent picture.
    """
    height, width = first.shape[:2]
    beside = path.with_name(f"{path.name}.own")
    with path.open("rb") as file, beside.open("wb") as out:
        frames = [(at, size) for kind, at, size in _chunks(file) if kind == FRAME]
        head = bytes(FRAME_HEAD_BYTES)
        if frames:
            file.seek(frames[0][0])
            head = file.read(FRAME_HEAD_BYTES)
        duration, flags = head[DURATION_AT:FLAGS_OF_FRAME_AT], head[FLAGS_OF_FRAME_AT]
        writer = _Writer(out, width, height, clear=first.shape[2:] == (4,))
        writer.frame(_picture(first, quality), duration, flags)
        for at, size in frames[1:]:
            file.seek(at)
            writer.chunk(FRAME, file.read(size))
        writer.close()
    beside.replace(path)


class JoinedWebp:
    """Writes the frames of several files into one. All but the first must be independent."""

    def __init__(self, size: tuple[int, int], target: Path) -> None:
        self.size = size
        self._out = target.open("wb")
        self._writer = _Writer(self._out, *size, clear=False)

    def append(self, part: Path, duration_ms: int) -> None:
        """Write the frames of a file, which are shown for this time."""
        with part.open("rb") as file:
            head = file.read(FLAGS_AT + 1)
            self._writer.is_clear |= head[12:16] == HEAD and bool(head[FLAGS_AT] & ALPHA)
            chunks = list(_chunks(file))
            if not any(kind == FRAME for kind, _, _ in chunks):
                self._still(file, duration_ms)
            for kind, at, size in chunks:
                if kind == FRAME:
                    file.seek(at)
                    self._writer.chunk(FRAME, file.read(size))

    def _still(self, file: BinaryIO, duration_ms: int) -> None:
        """Write a file that holds one frame as it is."""
        file.seek(0)
        self._writer.frame(_bitstream(file), _duration(duration_ms), 0)

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()
        self._out.close()

    def abandon(self) -> None:
        """Close the file, which stays incomplete."""
        self._out.close()


class _Writer:
    """Writes an animated picture that is shown again and again."""

    def __init__(self, out: BinaryIO, width: int, height: int, *, clear: bool) -> None:
        self.is_clear = clear
        self._out, self._size = out, (width, height)
        self._head()
        self.chunk(b"ANIM", bytes(6))

    def frame(self, bitstream: bytes, duration: bytes, flags: int) -> None:
        """Write a frame that replaces the whole picture."""
        width, height = self._size
        head = bytes(6) + _three(width - 1) + _three(height - 1) + duration
        self.chunk(FRAME, head + bytes([flags | REPLACES]) + bitstream)

    def chunk(self, kind: bytes, payload: bytes) -> None:
        """Write a chunk. Raises OutputTooLargeError."""
        if self._out.tell() + len(payload) > MOST_BYTES:
            raise OutputTooLargeError("The animated WebP would have more than 4 GiB")
        self._out.write(_chunk(kind, payload))

    def close(self) -> None:
        """Write the header."""
        self._out.seek(0)
        self._head()

    def _head(self) -> None:
        width, height = self._size
        flags = bytes([ANIMATION | (ALPHA if self.is_clear else 0), 0, 0, 0])
        self._out.seek(0, io.SEEK_END)
        size = max(0, self._out.tell() - 8)
        self._out.seek(0)
        self._out.write(b"RIFF" + struct.pack("<I", size) + b"WEBP")
        self._out.write(_chunk(HEAD, flags + _three(width - 1) + _three(height - 1)))


def _picture(pixels: Image, quality: int) -> bytes:
    """The chunks of a picture [H, W], [H, W, 3] or [H, W, 4] that a frame holds."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=METHOD)
    buffer.seek(0)
    return _bitstream(buffer)


def _bitstream(file: BinaryIO) -> bytes:
    """The chunks of a still file that a frame holds: its pixels, and their alpha."""
    found = b""
    for kind, at, size in list(_chunks(file)):
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):
            file.seek(at)
            found += _chunk(kind, file.read(size))
    return found


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _duration(duration_ms: int) -> bytes:
    return _three(max(0, min(duration_ms, MOST_MS)))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place of the payload, and size of each chunk of the file."""
    at = 12
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        yield head[:4], at + 8, size
        at += 8 + size + size % 2
