"""What libwebp leaves out of an animated WebP: how long the last frame is shown, and transparency.

FFmpeg does not tell libwebp when the last frame ends, so libwebp writes the average of the others.
And libwebp stores only the part of a frame that changes. If all parts are opaque rectangles, it
says that the picture is not transparent, and programs show white around them.
"""

from pathlib import Path
from typing import BinaryIO

FRAME = b"ANMF"
DURATION_AT = 12
"""Place of the duration in a frame's chunk, 24 bits in milliseconds (RFC 9649, section 2.7.1.1)."""


HEAD = b"VP8X"
FLAGS_AT = 20
"""Place of the flags in the file (RFC 9649, section 2.7)."""

ALPHA = 0x10


def set_transparent(path: Path) -> None:
    """Say that the picture is transparent. A file without this header holds one frame as it is."""
    with path.open("r+b") as file:
        start = file.read(FLAGS_AT + 1)
        if start[12:16] == HEAD:
            file.seek(FLAGS_AT)
            file.write(bytes([start[FLAGS_AT] | ALPHA]))


def set_last_duration(path: Path, duration_ms: int) -> None:
    """Write the duration of the last frame. A file with one frame has none."""
    with path.open("r+b") as file:
        if (at := _last_frame(file)) is not None:
            file.seek(at + DURATION_AT)
            file.write(min(duration_ms, 0xFFFFFF).to_bytes(3, "little"))


def _last_frame(file: BinaryIO) -> int | None:
    """Where the payload of the last frame begins."""
    at, last = 12, None
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return last
        if head[:4] == FRAME:
            last = at + 8
        size = int.from_bytes(head[4:], "little")
        at += 8 + size + size % 2
